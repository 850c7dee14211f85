#!/bin/sh
# Registers the prompts on a server of its own and calls each, with simulated answers and the variables in its folder here:
# tests/NAME/VARIABLE.txt for prompts/assistant/NAME.prompt.md.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
flywheel serve --config tests/flywheel.toml --data "$folder/data" --listen 127.0.0.1:0 >"$folder/log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
until FLYWHEEL_URL=$(sed -n 's/.*listening on \(http:[^,]*\),.*/\1/p' "$folder/log") && [ -n "$FLYWHEEL_URL" ]; do
  kill -0 "$server" 2>/dev/null || { cat "$folder/log"; exit 1; }
  sleep 0.1
done
unset FLYWHEEL_KEY
export FLYWHEEL_URL

flywheel push prompts
flywheel app create assistant
for prompt in prompts/assistant/*.prompt.md; do
  name=$(basename "$prompt" .prompt.md)
  test=tests/$name/
  [ -d "$test" ] || { echo "assistant/$name has no folder $test with its variables"; exit 1; }
  set --
  for variable in "$test"*.txt; do
    set -- "$@" -v "$(basename "$variable" .txt)=@$variable"
  done
  flywheel deploy assistant --prompt "assistant/$name" --reason "tests/check.sh"
  answer=$(flywheel call assistant "$@")
  [ -n "$answer" ] || { echo "assistant/$name answered nothing"; exit 1; }
  echo "assistant/$name: $answer"
done
