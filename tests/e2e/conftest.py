"""What the end-to-end tests share: a real model server, and Flywheel servers on folders of their own."""

import json as json_format
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL_SERVER = ROOT / "xtask" / "e2e" / "model_server.py"

MODEL_START_SECONDS = 120
START_SECONDS = 30
STOP_SECONDS = 10
CLI_SECONDS = 60


@dataclass
class Flywheel:
    """One `flywheel serve` on a folder of its own. It keeps folder and address across `stop`, `kill` and `restart`."""

    binary: Path
    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def start(self) -> None:
        """Returns once the server says that it is ready."""
        assert self.process is None, "the server already runs"
        command = [
            *(self.binary, "serve"),
            *("--data", self.folder / "data"),
            *("--listen", f"127.0.0.1:{self.port}"),
            *("--config", self.folder / "flywheel.toml"),
        ]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready(self.process)

    def cli(self, *arguments: str, check: bool = True, json: bool = False) -> Any:
        """Runs a command against this server: what it printed, as parsed JSON with `json`.

        With `check=False` it is the completed process, whatever its exit code, for a test of failures.
        """
        command = [self.binary, *arguments, *(["--json"] if json else [])]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment() | {"FLYWHEEL_URL": self.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLI_SECONDS,
        )
        if not check:
            return done
        line = " ".join(["flywheel", *arguments])
        assert done.returncode == 0, f"`{line}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return json_format.loads(done.stdout) if json else done.stdout

    def stop(self) -> None:
        """Asks the server to end, and expects it to do so in time and in order."""
        process = self._running()
        process.terminate()
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the server still ran {STOP_SECONDS} s after SIGTERM")
        self.process = None
        assert code == 0, f"the server ended with {code} after SIGTERM"

    def kill(self) -> None:
        """Ends the server as a crash would, with SIGKILL."""
        process = self._running()
        process.kill()
        process.wait()
        self.process = None

    def restart(self) -> None:
        """Starts the server again, after a stop if it still runs."""
        if self.process is not None:
            self.stop()
        self.start()

    def _environment(self) -> dict[str, str]:
        """The caller's own settings for Flywheel stay out of the tests."""
        outer = {name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")}
        return outer | self.environment

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "the server does not run"
        return self.process

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(base_url=self.url, trust_env=False, timeout=1) as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    self.process = None
                    pytest.fail(f"the server ended with {process.returncode} before it was ready")
                try:
                    if client.get("/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.02)
        pytest.fail(f"the server was not ready within {START_SECONDS} s")


StartFlywheel = Callable[..., Flywheel]


@pytest.fixture(scope="session")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL, up to `/v1`, of a server with a real language model."""
    log = tmp_path_factory.mktemp("model") / "model.log"
    with log.open("wb") as errors, subprocess.Popen(
        [sys.executable, MODEL_SERVER, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
    ) as process:
        try:
            line = _first_line(process, MODEL_START_SECONDS)
            if not line.startswith("listening "):
                pytest.fail(f"the model server did not start:\n{log.read_text(errors='replace')}")
            yield line.removeprefix("listening ") + "/v1"
        finally:
            process.kill()


@pytest.fixture(scope="session")
def flywheel_binary() -> Path:
    """The program under test."""
    path = os.environ.get("FLYWHEEL_BIN")
    if path is None:
        pytest.fail("FLYWHEEL_BIN does not name the flywheel binary; `cargo xtask test --only e2e` sets it")
    return Path(path)


@pytest.fixture
def server(flywheel_binary: Path, tmp_path: Path) -> Iterator[StartFlywheel]:
    """Starts Flywheel servers: `server(config="…", environment={…})`, each on a new folder.

    Those still running when the test ends are stopped; pytest shows their logs if it failed.
    """
    servers: list[Flywheel] = []

    def start(config: str = "", environment: dict[str, str] | None = None) -> Flywheel:
        folder = tmp_path / f"flywheel-{len(servers) + 1}"
        folder.mkdir()
        (folder / "flywheel.toml").write_text(config)
        flywheel = Flywheel(flywheel_binary, folder, _free_port(), environment or {})
        servers.append(flywheel)
        flywheel.start()
        return flywheel

    yield start

    try:
        for flywheel in servers:
            if flywheel.process is not None:
                flywheel.stop()
    finally:
        for flywheel in servers:
            if flywheel.process is not None:
                flywheel.kill()
            print(f"--- log of {flywheel.folder.name}\n{flywheel.log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _first_line(process: subprocess.Popen[bytes], seconds: float) -> str:
    """The first line a process prints, or nothing if it ends or the time is over before that."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(seconds):
            return ""
    return process.stdout.readline().decode().strip()
