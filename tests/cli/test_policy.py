"""`ringfence policy` changes the revision that the user looked at, or says which one there is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, overlay

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request, problem

POLICY = "/api/script-packages/sandbox-policy"


def state(revision: int, **partial: Any) -> dict[str, Any]:
    policy = overlay(DEFAULT_POLICY, partial).to_wire()
    return {
        "policy": policy,
        "revision": revision,
        "updatedAt": "2026-01-01T00:00:00+00:00" if revision else None,
        "updatedBy": "admin" if revision else None,
    }


def foreseen(**more: Any) -> dict[str, Any]:
    """What a host says that a change would do: nothing that anybody would mind, but for `more`."""
    return {
        "revision": 7,
        "changed": True,
        "policy": overlay(DEFAULT_POLICY, {"network": {"mode": "deny"}}).to_wire(),
        "changes": [],
        "looser": [],
        "breaks": 0,
        "prospects": [],
        "unforeseen": [],
        "notes": [],
        **more,
    }


def foresees(host: FakeHost, **more: Any) -> None:
    host.on("POST", f"{POLICY}/preview", Answer(200, foreseen(**more)))


def test_show_names_revision_author_and_every_field(command: Command, host: FakeHost) -> None:
    host.on("GET", POLICY, Answer(200, state(7, network={"mode": "deny"})))
    shown = command("policy", "show").stdout
    assert "Revision 7, by admin" in shown
    assert "network.mode" in shown
    assert "512 MiB" in shown


def test_show_says_when_nobody_has_written_one(command: Command, host: FakeHost) -> None:
    host.on("GET", POLICY, Answer(200, state(0)))
    assert "shipped default" in command("policy", "show").stdout


def test_show_json_is_the_answer_and_nothing_else(command: Command, host: FakeHost) -> None:
    host.on("GET", POLICY, Answer(200, state(7)))
    assert command("policy", "show", "--json").json == state(7)


def test_a_past_revision_is_shown(command: Command, host: FakeHost) -> None:
    host.on("GET", f"{POLICY}/history/3", Answer(200, state(3)))
    assert "Revision 3" in command("policy", "show", "--revision", "3").stdout


@pytest.mark.parametrize(("word", "method"), [("set", "PUT"), ("patch", "PATCH")])
def test_a_change_expects_the_revision_that_was_read(
    command: Command, host: FakeHost, word: str, method: str
) -> None:
    foresees(host)
    host.on("GET", POLICY, Answer(200, state(7)))
    host.on(method, POLICY, Answer(200, state(8, network={"mode": "deny"})))
    outcome = command("policy", word, "network.mode=deny", "--reason", "incident 12")
    sent = host.only(method)
    assert outcome.status == 0
    assert sent.headers["if-match"] == '"7"'
    assert sent.body == {"policy": {"network": {"mode": "deny"}}, "reason": "incident 12"}
    assert "The policy is now at revision 8 (was 7)." in outcome.stdout
    assert "- network.mode = allowlist" in outcome.stdout
    assert "+ network.mode = deny" in outcome.stdout


def test_what_has_no_effect_is_told_with_the_change(command: Command, host: FakeHost) -> None:
    foresees(host)
    host.on("GET", POLICY, Answer(200, state(7)))
    note = "The entry 127.0.0.1:5432 stays blocked: loopback"
    host.on("PATCH", POLICY, Answer(200, {**state(8, network={"mode": "deny"}), "notes": [note]}))

    outcome = command("policy", "patch", "network.allow=127.0.0.1:5432")

    assert f"Note: {note}." in " ".join(outcome.stdout.split())


def test_expect_is_sent_instead(command: Command, host: FakeHost) -> None:
    foresees(host)
    host.on("GET", POLICY, Answer(200, state(7)))
    host.on("PATCH", POLICY, Answer(200, state(8)))
    command("policy", "patch", "enabled=true", "--expect", "5")
    assert host.only("PATCH").headers["if-match"] == '"5"'


def test_a_stale_revision_shows_the_current_one(command: Command, host: FakeHost) -> None:
    foresees(host)
    host.on("GET", POLICY, Answer(200, state(7)))
    host.on("PATCH", POLICY, problem(412, "stale", current=state(9, network={"mode": "deny"})))
    outcome = command("policy", "patch", "enabled=true")
    assert outcome.status == 1
    assert outcome.stdout == ""
    assert "the policy is at revision 9, not 7" in outcome.stderr
    assert '"mode": "deny"' in outcome.stderr
    told = command("policy", "patch", "enabled=true", "--json").json["error"]
    assert told["problem"]["current"] == state(9, network={"mode": "deny"})


@pytest.mark.parametrize(
    "extra",
    [
        {"problems": ["network.mod: unknown key"], "detail": "invalid: network.mod: unknown key"},
        {
            "errors": [{"pointer": "/body/reason", "detail": "too long"}],
            "detail": "network.mod: unknown key",
        },
        {"detail": "network.mod: unknown key"},
    ],
)
def test_a_policy_that_the_host_does_not_accept_is_a_usage_mistake(
    command: Command, host: FakeHost, extra: dict[str, Any]
) -> None:
    foresees(host)
    host.on("GET", POLICY, Answer(200, state(7)))
    host.on("PATCH", POLICY, problem(422, "invalid policy", **extra))
    outcome = command("policy", "patch", "network.mod=deny")
    assert outcome.status == 2
    assert outcome.stderr.count("network.mod: unknown key") == 1
    assert "None" not in outcome.stderr


def test_no_change_is_said_so(command: Command, host: FakeHost) -> None:
    foresees(host)
    host.on("GET", POLICY, Answer(200, state(7)))
    host.on("PATCH", POLICY, Answer(200, state(7)))
    outcome = command("policy", "patch", "enabled=true")
    assert outcome.stdout == "Nothing changed: the policy stays at revision 7.\n"


def test_revert_posts_the_revision_to_restore(command: Command, host: FakeHost) -> None:
    foresees(host)
    host.on("GET", POLICY, Answer(200, state(7, enabled=False)))
    host.on("POST", f"{POLICY}/revert", Answer(200, state(8)))
    outcome = command("policy", "revert", "3", "--json")
    sent = host.only("POST", f"{POLICY}/revert")
    assert outcome.json == state(8)
    assert sent.body == {"revision": 3}
    assert sent.headers["if-match"] == '"7"'


def test_history_lists_what_changed(command: Command, host: FakeHost) -> None:
    entry = {
        "revision": 2,
        "at": "2026-01-01T00:00:00+00:00",
        "actor": "eve\x1b[2J",
        "reason": "[bold]because[/bold]",
        "changes": [{"path": "network.mode", "before": "allowlist", "after": "deny"}],
    }

    def answer(request: Request) -> Answer:
        assert request.path.endswith("?limit=5&before=9")
        return Answer(200, {"revisions": [entry]})

    host.on("GET", f"{POLICY}/history", answer)
    shown = command("policy", "history", "--limit", "5", "--before", "9").stdout
    assert "network.mode: allowlist → deny" in shown
    assert "[bold]because[/bold]" in shown
    assert r"eve\x1b[2J" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("policy",),
        ("policy", "set"),
        ("policy", "shwo"),
        ("policy", "set", "no-such-file.json"),
        ("policy", "set", json.dumps([1])),
        ("policy", "revert"),
        ("policy", "revert", "-1"),
        ("policy", "revert", "one"),
        ("policy", "history", "--limit", "0"),
        ("policy", "patch", "enabled=true", "--expect", "-2"),
        ("policy", "show", "--nope"),
        ("nope",),
    ],
)
def test_wrong_arguments_are_status_2_and_reach_no_host(
    command: Command, host: FakeHost, arguments: tuple[str, ...]
) -> None:
    outcome = command(*arguments)
    assert outcome.status == 2
    assert "Traceback" not in outcome.stderr
    assert host.requests == []
