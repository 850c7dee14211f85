"""The loop a team begins with, on a real model: push, deploy, call, rate, change, roll back.

It uses the files of `examples/support`, the command line and the unmodified `openai` client, as the README does.
"""

import shutil
from pathlib import Path

import openai
import pytest

from conftest import ROOT, Flywheel, StartFlywheel

APP = "support-summarizer"
PROMPT = "support/summary"
TICKET = "The invoice of May was charged twice. I want one of the two payments back."


@pytest.fixture
def loop(server: StartFlywheel, model_url: str) -> Flywheel:
    """A server whose provider is the real model, with the example's prompts in its folder."""
    example = ROOT / "examples" / "support"
    config = (example / "flywheel.toml").read_text().replace("http://127.0.0.1:8080/v1", model_url)
    flywheel = server(config)
    shutil.copytree(example / "prompts", flywheel.folder / "prompts")
    return flywheel


def client_of(flywheel: Flywheel) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{flywheel.url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, **further: object) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(
        model=f"flywheel/{APP}",
        messages=[],
        user="user_101",
        extra_body={"flywheel": {"variables": {"ticket": TICKET}, "session": "s-1"}},
        **further,
    )


def push_and_deploy(flywheel: Flywheel, reason: str) -> str:
    """Pushes the folder, deploys the newest version, and returns the manifest's id."""
    flywheel.cli("push", "prompts")
    moved = flywheel.cli("deploy", APP, "--prompt", PROMPT, "--reason", reason, json=True)
    return moved["manifest"]["id"]


def change_prompt(folder: Path) -> None:
    path = folder / "prompts" / "support" / "summary.prompt.md"
    text = path.read_text()
    changed = text.replace("in one sentence", "in three words").replace("First version", "Shorter")
    assert changed != text
    path.write_text(changed)


def test_push_deploy_call_rate_change_and_roll_back(loop: Flywheel) -> None:
    loop.cli("app", "create", APP)
    first = push_and_deploy(loop, "first version")
    client = client_of(loop)

    whole = ask(client)
    assert whole.choices[0].message.content
    assert whole.flywheel["manifest"] == first
    assert whole.flywheel["recorded"] is True
    assert whole.usage is not None and whole.usage.completion_tokens > 0

    change_prompt(loop.folder)
    second = push_and_deploy(loop, "shorter summaries")
    assert second != first

    text, last = "", None
    for chunk in ask(client, stream=True):
        text += chunk.choices[0].delta.content or ""
        last = chunk
    assert text and last is not None
    assert last.flywheel["manifest"] == second
    assert last.flywheel["recorded"] is True

    loop.cli("feedback", "send", whole.id, "--rating", "5")
    loop.cli("feedback", "send", last.id, "--thumbs", "down")
    loop.cli("feedback", "send", last.id, "--comment", "three words say nothing")

    moved = loop.cli("rollback", APP, "--reason", "users dislike it", json=True)
    assert moved["deployment"]["kind"] == "rollback"
    assert moved["manifest"]["id"] == first
    again = ask(client)
    assert again.flywheel["manifest"] == first
    assert again.choices[0].message.content == whole.choices[0].message.content, "temperature is 0"

    call = loop.cli("calls", "show", last.id, json=True)
    assert call["output"] == text
    assert call["unit"] == "user_101" and call["session"] == "s-1"
    assert TICKET in call["messages"][1]["content"]
    assert {item["kind"] for item in call["feedback"]} == {"thumbs", "comment"}

    summary = loop.cli("feedback", "summary", "--by", "manifest", "--app", APP, json=True)
    rows = {row["key"]: row for row in summary["items"]}
    assert rows[first]["calls"] == 2 and rows[second]["calls"] == 1
    [rating] = rows[first]["series"]
    assert (rating["series"], rating["n"], rating["value"]) == ("rating", 1, 5.0)

    history = loop.cli("history", APP, json=True)["items"]
    assert [item["kind"] for item in history] == ["rollback", "deploy", "deploy"]
    assert "users dislike it" in loop.cli("history", APP)
    assert loop.cli("audit", "verify", json=True)["verified"] is True


def test_what_was_acknowledged_outlives_a_crash(loop: Flywheel) -> None:
    loop.cli("app", "create", APP)
    manifest = push_and_deploy(loop, "first version")
    answer = ask(client_of(loop))
    loop.cli("feedback", "send", answer.id, "--correction", "A double charge in May is to be refunded.")
    loop.kill()
    loop.start()
    call = loop.cli("calls", "show", answer.id, json=True)
    assert call["output"] == answer.choices[0].message.content
    assert call["feedback"][0]["text"] == "A double charge in May is to be refunded."
    assert ask(client_of(loop)).flywheel["manifest"] == manifest


def test_a_rehearsal_probes_the_way_back(loop: Flywheel) -> None:
    loop.cli("app", "create", APP)
    push_and_deploy(loop, "first version")
    change_prompt(loop.folder)
    push_and_deploy(loop, "shorter summaries")
    ask(client_of(loop))
    rehearsed = loop.cli("rehearse", APP, "--probe", json=True)
    assert rehearsed["passed"] is True
    assert len(rehearsed["items"]) == 2
    assert all(item["probe"]["output"] for item in rehearsed["items"])


def test_pull_writes_back_what_push_took(loop: Flywheel) -> None:
    loop.cli("push", "prompts")
    loop.cli("pull", "pulled")
    loop.cli("push", "pulled")
    versions = loop.cli("prompt", "history", PROMPT, json=True)["items"]
    assert len(versions) == 1, "the files that were pulled are the content that was pushed"


def test_the_client_sees_openai_errors(loop: Flywheel) -> None:
    client = client_of(loop)
    with pytest.raises(openai.NotFoundError, match="app `support-summarizer` does not exist"):
        ask(client)
    loop.cli("app", "create", APP)
    with pytest.raises(openai.NotFoundError, match="nothing is deployed"):
        ask(client)
    push_and_deploy(loop, "first version")
    with pytest.raises(openai.BadRequestError, match='"ticket" is a required property'):
        client.chat.completions.create(model=f"flywheel/{APP}", messages=[])
    names = {model.id for model in client.models.list()}
    assert {f"flywheel/{APP}", f"flywheel/{APP}@production", "smollm2"} <= names


def test_keys_open_the_doors_their_roles_allow(loop: Flywheel) -> None:
    loop.cli("app", "create", APP)
    push_and_deploy(loop, "first version")
    admin = loop.cli("key", "create", "ops", "--role", "admin", json=True)["key"]
    refused = loop.cli("app", "list", check=False)
    assert refused.returncode == 1 and "a key is needed" in refused.stderr
    loop.environment["FLYWHEEL_KEY"] = admin
    caller = loop.cli("key", "create", "web", "--role", "app", "--app", APP, json=True)
    client = openai.OpenAI(base_url=f"{loop.url}/v1", api_key=caller["key"], max_retries=0)
    assert ask(client).choices
    loop.cli("key", "revoke", caller["id"])
    with pytest.raises(openai.AuthenticationError, match="not known, or was revoked"):
        ask(client)
    assert caller["key"] not in loop.log and admin not in loop.log
