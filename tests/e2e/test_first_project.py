"""The first minutes with a project of one's own: `flywheel init`, the commands it names, its tests, and `flywheel doctor`."""

import json
import os
import subprocess
from pathlib import Path

from conftest import Flywheel, StartFlywheel


def run(binary: Path, folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")}
    outer["PATH"] = f"{binary.parent}:{outer['PATH']}"
    return subprocess.run(
        command, cwd=folder, env=outer | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def test_a_new_project_works_as_it_is(flywheel_binary: Path, tmp_path: Path) -> None:
    made = run(flywheel_binary, tmp_path, "flywheel", "init", "project")
    assert made.returncode == 0, made.stderr
    assert "flywheel deploy assistant --prompt assistant/answer" in made.stderr
    tested = run(flywheel_binary, tmp_path / "project", "sh", "tests/check.sh")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "assistant/answer: [simulated] How long does a refund take?" in tested.stdout
    assert "assistant/title: [simulated] The customer was charged twice" in tested.stdout


def test_nothing_is_overwritten(flywheel_binary: Path, tmp_path: Path) -> None:
    (tmp_path / "flywheel.toml").write_text("mine")
    refused = run(flywheel_binary, tmp_path, "flywheel", "init")
    assert refused.returncode == 1
    assert "has flywheel.toml already; nothing was written" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["flywheel.toml"]
    assert (tmp_path / "flywheel.toml").read_text() == "mine"


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {item["check"]: item["state"] for item in json.loads(done.stdout)["items"]}


def test_the_doctor_finds_nothing_wrong_where_nothing_is(server: StartFlywheel) -> None:
    flywheel = server('[providers.main]\nkind = "simulated"\n')
    found = flywheel.cli("doctor", "--data", "data", json=True)
    assert found["passed"]
    assert {item["check"]: item["state"] for item in found["items"]} == {
        "configuration": "ok",
        "data folder": "ok",
        "disk": "ok",
        "provider main": "ok",
        "server": "ok",
        "clock": "ok",
        "version": "ok",
        "key": "ok",
    }


def test_the_doctor_says_what_is_wrong(server: StartFlywheel, model_url: str) -> None:
    flywheel = server('[providers.main]\nkind = "simulated"\n')
    flywheel.cli("key", "create", "ops", "--role", "admin")
    closed = "http://127.0.0.1:9/v1"
    (flywheel.folder / "flywheel.toml").write_text(
        f'[providers.real]\nkind = "openai"\nbase_url = "{model_url}"\n'
        f'[providers.closed]\nkind = "openai"\nbase_url = "{closed}"\n'
        '[providers.keyless]\nkind = "openai"\napi_key_env = "NO_SUCH_KEY"\n'
    )
    (flywheel.folder / "data").chmod(0o755)
    done = flywheel.cli("doctor", "--data", "data", "--json", check=False)
    assert done.returncode == 1
    assert states(done) == {
        "configuration": "ok",
        "data folder": "look",
        "disk": "ok",
        "provider real": "ok",
        "provider closed": "failed",
        "provider keyless": "failed",
        "server": "ok",
        "clock": "ok",
        "version": "ok",
        "key": "failed",
    }
    shown = flywheel.cli("doctor", "--data", "data", check=False)
    assert "hint: provider keyless: set it where the server is started" in shown.stderr
    assert "environment variable `NO_SUCH_KEY` is not set" in shown.stdout
    (flywheel.folder / "flywheel.toml").write_text("[providers\n")
    broken = flywheel.cli("doctor", "--json", check=False)
    assert states(broken)["configuration"] == "failed"
    assert "line 1" in broken.stdout
    flywheel.stop()
    assert states(flywheel.cli("doctor", "--json", check=False))["server"] == "failed"
