"""Conditions a server meets sooner or later: each ends in a clear message, and nothing acknowledged is lost."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import httpx
import pytest

from conftest import Flywheel, StartFlywheel

SIMULATED = '[providers.sim]\nkind = "simulated"\n'
CONTENT = {
    "template_format": "fstring",
    "messages": [{"role": "user", "content": "Say: {text}"}],
    "model_id": "sim",
    "model_version": "1",
}


def api(flywheel: Flywheel) -> httpx.Client:
    return httpx.Client(base_url=flywheel.url, trust_env=False, timeout=20)


def deployed(flywheel: Flywheel) -> httpx.Client:
    """A client of a server with one app on the simulated provider."""
    client = api(flywheel)
    model = {"model_id": "sim", "model_version": "1", "provider": "sim"}
    push = {"models": [model], "prompts": [{"prompt": "say", "content": CONTENT}]}
    client.post("/api/v1/push", json=push).raise_for_status()
    client.put("/api/v1/apps/echo", json={}).raise_for_status()
    deploy = {"prompt": "say", "reason": "first"}
    client.post("/api/v1/apps/echo/deploy", json=deploy).raise_for_status()
    return client


def call(client: httpx.Client, text: str = "hello") -> httpx.Response:
    body = {"model": "flywheel/echo", "flywheel": {"variables": {"text": text}}}
    return client.post("/v1/chat/completions", json=body)


def start_again(flywheel: Flywheel, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected to refuse to start."""
    command = [flywheel.binary, "serve", "--data", flywheel.folder / "data", *arguments]
    return subprocess.run(command, cwd=flywheel.folder, capture_output=True, text=True, timeout=20)


def test_a_second_server_on_the_same_folder_is_refused(server: StartFlywheel) -> None:
    flywheel = server(SIMULATED)
    second = start_again(flywheel, "--listen", "127.0.0.1:0")
    assert second.returncode == 1
    assert "another server uses the data folder" in second.stderr
    assert httpx.get(f"{flywheel.url}/readyz", trust_env=False).status_code == 200


def test_a_folder_of_a_newer_release_is_refused_and_left_alone(server: StartFlywheel) -> None:
    flywheel = server(SIMULATED)
    flywheel.stop()
    path = flywheel.folder / "data" / "flywheel.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)"
            " VALUES (9999, 'from the future', 1, x'00', 0)"
        )
    before = path.read_bytes()
    refused = start_again(flywheel, "--listen", "127.0.0.1:0")
    assert refused.returncode == 1
    assert "schema version 9999, this release knows up to" in refused.stderr
    assert path.read_bytes() == before


def test_a_data_folder_that_cannot_be_written_is_named(server: StartFlywheel) -> None:
    flywheel = server(SIMULATED)
    flywheel.stop()
    data = flywheel.folder / "data"
    shutil.rmtree(data)
    data.write_text("a file where the folder should be")
    refused = start_again(flywheel, "--listen", "127.0.0.1:0")
    assert refused.returncode == 1
    assert str(data) in refused.stderr and "cannot be" in refused.stderr


def on_a_read_only_mount(folder: Path) -> list[str]:
    """What to put before a command so that a folder is on a read-only mount for it, and for nobody else."""
    become_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    prefix = ["unshare", "--mount", *become_root, "sh", "-c", script, str(folder)]
    try:
        problem = subprocess.run([*prefix, "true"], capture_output=True, text=True).stderr
    except FileNotFoundError as error:
        problem = str(error)
    if problem:
        missing = f"this machine lets nobody mount: {problem}"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return prefix


def test_a_data_folder_on_a_read_only_mount_is_refused_and_left_alone(server: StartFlywheel) -> None:
    flywheel = server(SIMULATED)
    kept = call(deployed(flywheel)).json()
    # After a kill there is a log that a start would work off.
    flywheel.kill()
    data = flywheel.folder / "data"
    read_only = on_a_read_only_mount(data)
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    assert "flywheel.db-wal" in before
    written = subprocess.run([*read_only, "touch", data / "x"], capture_output=True, text=True)
    assert "Read-only file system" in written.stderr

    serve = [flywheel.binary, "serve", "--data", data, "--listen", "127.0.0.1:0"]
    refused = subprocess.run([*read_only, *serve], cwd=flywheel.folder, capture_output=True, text=True, timeout=20)
    assert refused.returncode == 1
    assert str(data) in refused.stderr and "Read-only file system" in refused.stderr
    verify = [flywheel.binary, "--json", "audit", "verify", "--data", data]
    verified = subprocess.run([*read_only, *verify], capture_output=True, text=True, timeout=20)
    assert json.loads(verified.stdout)["verified"] is True, verified.stderr
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before

    flywheel.start()
    with api(flywheel) as client:
        assert client.get(f"/api/v1/calls/{kept['id']}").status_code == 200


def test_without_a_key_only_the_loopback_address_is_served(server: StartFlywheel) -> None:
    flywheel = server(SIMULATED)
    flywheel.stop()
    refused = start_again(flywheel, "--listen", "0.0.0.0:0")
    assert refused.returncode == 1
    assert "flywheel key create" in refused.stderr


def test_a_full_disk_refuses_feedback_and_serves_calls(server: StartFlywheel, monkeypatch: pytest.MonkeyPatch) -> None:
    flywheel = server(SIMULATED)
    client = deployed(flywheel)
    kept = call(client).json()
    flywheel.stop()

    # A limit on the size of files is what a full disk looks like to the server: writes fail, reads go on.
    files = [path for path in (flywheel.folder / "data").iterdir()]
    limit = max(path.stat().st_size for path in files) + (64 << 10)
    ordinary = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: ordinary(*args, preexec_fn=limited(limit), **kwargs))
    flywheel.start()
    monkeypatch.undo()

    with api(flywheel) as client:
        text = "x" * 20_000
        answers = [call(client, text) for _ in range(40)]
        assert all(answer.status_code == 200 for answer in answers), "calls go on"
        recorded = [answer.json()["flywheel"]["recorded"] for answer in answers]
        assert recorded[-1] is False
        assert answers[-1].headers["flywheel-recorded"] == "false"
        feedback = {"id": "f-1", "call_id": kept["id"], "kind": "comment", "text": text * 20}
        refused = client.post("/api/v1/feedback", json=feedback)
        assert refused.status_code == 503 and refused.headers["retry-after"]
        assert refused.json()["code"] == "store_unavailable"
        metrics = client.get("/metrics").text
        assert f"flywheel_calls_not_recorded_total {recorded.count(False)}" in metrics
    flywheel.stop()

    flywheel.start()
    with api(flywheel) as client:
        assert client.get(f"/api/v1/calls/{kept['id']}").status_code == 200
        for answer, was_recorded in zip(answers, recorded):
            found = client.get(f"/api/v1/calls/{answer.json()['id']}").status_code
            assert found == 200 or not was_recorded
        assert client.post("/api/v1/feedback", json=feedback).json()["items"][0]["stored"] == "stored"
        assert client.get("/api/v1/audit/verify").json()["verified"] is True


def limited(file_bytes: int):
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return limit


def test_a_huge_body_is_refused_before_it_is_read(server: StartFlywheel) -> None:
    flywheel = server(SIMULATED + "\n[limits]\nbody_bytes = 1000000\n")
    with api(flywheel) as client:

        def pieces():
            for _ in range(100):
                yield b"x" * (1 << 20)

        try:
            status = client.post("/v1/chat/completions", content=pieces()).status_code
        except httpx.TransportError:
            # The server may close the connection while the rest is still being sent.
            status = 413
        assert status == 413
        refused = client.post("/api/v1/calls", content=b"x" * 1_000_001)
        assert refused.status_code == 413 and "limits.body_bytes" in refused.json()["hint"]
        assert client.get("/readyz").status_code == 200


def test_a_huge_head_is_refused_and_the_next_request_served(server: StartFlywheel) -> None:
    flywheel = server(SIMULATED)
    client = deployed(flywheel)
    # The answer may come before the head is sent, and the connection end with it.
    try:
        status = client.get("/api/v1/apps", headers={"X-Long": "x" * 1_000_000}).status_code
    except httpx.TransportError:
        status = 431
    assert status == 431
    assert client.get("/api/v1/apps", headers={"X-Long": "x" * 30_000}).status_code == 200
    assert call(client).status_code == 200


def test_what_was_recorded_before_a_stop_is_there_after_it(server: StartFlywheel) -> None:
    flywheel = server(SIMULATED)
    client = deployed(flywheel)
    ids = [call(client).json()["id"] for _ in range(20)]
    flywheel.stop()
    flywheel.start()
    with api(flywheel) as client:
        found = client.get("/api/v1/calls", params={"limit": 100}).json()["items"]
    assert {item["id"] for item in found} == set(ids)
