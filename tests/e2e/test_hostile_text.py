"""What models and users write reaches a terminal and a log as text that does nothing."""

from urllib.parse import quote

import httpx
from conftest import StartFlywheel

HOSTILE = "<script>alert(1)</script>\x1b[2J\x1b]0;owned\x07\u202egnihtemos\x9b31m\r\nline two\x00 end"
CONTROLS = ["\x1b", "\x07", "\x9b", "\x00", "\u202e", "\r"]
LINE = 5_000_000


def assert_harmless(text: str, where: str) -> None:
    for control in CONTROLS:
        assert control not in text, f"{where} has {control!r}"


def test_text_of_models_does_nothing_in_a_terminal(server: StartFlywheel) -> None:
    flywheel = server("")
    flywheel.cli("app", "create", "support")
    calls = [
        {"app": "support", "id": "hostile", "user": HOSTILE, "output": HOSTILE, "error": HOSTILE,
         "status": "provider_error", "messages": [{"role": "user", "content": HOSTILE}]},
        {"app": "support", "id": "long", "output": "y" * LINE, "messages": [{"role": "user", "content": "z" * LINE}]},
    ]
    with httpx.Client(base_url=flywheel.url, trust_env=False, timeout=30) as client:
        for call in calls:
            logged = client.post("/api/v1/calls", json=call)
            assert logged.status_code == 201, logged.text
        said = client.post("/api/v1/feedback", json={"call_id": "support:hostile", "kind": "comment", "text": HOSTILE})
        assert said.status_code == 201, said.text
    for command in (
        ("calls", "list"),
        ("calls", "show", "support:hostile"),
        ("calls", "list", "--text", "line two"),
        ("feedback", "summary", "--app", "support"),
    ):
        assert_harmless(flywheel.cli(*command), " ".join(command))
    listed = flywheel.cli("calls", "list")
    assert max(map(len, listed.splitlines())) < 500
    shown = flywheel.cli("calls", "show", "support:long")
    assert len(shown) >= 2 * LINE
    refused = flywheel.cli("calls", "show", "support:\x1b[2Jnothing", check=False)
    assert_harmless(refused.stdout + refused.stderr, "an error that repeats what was typed")


def test_text_of_models_does_nothing_in_a_log(server: StartFlywheel, model_url: str) -> None:
    flywheel = server(f'[providers.local]\nkind = "openai"\nbase_url = "{model_url}"\n')
    with httpx.Client(base_url=flywheel.url, trust_env=False, timeout=30) as client:
        for body in ({"model": HOSTILE, "messages": []}, {"model": f"flywheel/{HOSTILE}", "messages": []}):
            client.post("/v1/chat/completions", json=body)
        client.post("/api/v1/push", json={"prompts": [{"prompt": HOSTILE, "content": {}}]})
        client.post(f"/api/v1/nothing/{quote(HOSTILE)}", json={"unread": HOSTILE})
        client.get("/api/v1/calls", params={"text": HOSTILE})
    flywheel.stop()
    assert_harmless(flywheel.log, "the log")
    assert not any(line.startswith("line two") for line in flywheel.log.splitlines())
