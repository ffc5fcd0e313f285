"""`ringfence events` shows the log, follows it and has failures replayed; `ringfence policy verify` finds tampering."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from ringfence.cli.commands import events

from tests.cli.conftest import Command, Outcome
from tests.cli.fake_host import Answer, FakeHost, Request, problem

EVENTS = "/api/host/events"
VERIFY = "/api/script-packages/sandbox-policy/verify"


def event(position: int, **changed: Any) -> dict[str, Any]:
    return {
        "position": position,
        "stream": "sandbox-policy",
        "version": 7,
        "hook": "sandbox-policy-changed",
        "plugin": "script-packages",
        "actor": "ada",
        "reason": "incident 12",
        "occurredAt": "2026-01-01T00:00:00+00:00",
        "instance": "i",
        "payload": None,
        "payloadWithheld": True,
        **changed,
    }


FAILED = {
    "id": 3,
    "plugin": "mailer",
    "workerGroup": "letters",
    "attempts": 4,
    "error": "ValueError: \x1b[31mno",
    "failedAt": "2026-01-01T00:00:00+00:00",
    "replaying": False,
    "position": 12,
    "hook": "noted",
    "stream": "s",
    "version": 1,
    "occurredAt": "2026-01-01T00:00:00+00:00",
}


def query(request: Request) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(request.path).query))


def test_tail_says_what_happened_on_one_line_each(command: Command, host: FakeHost) -> None:
    withheld, shown = event(1, reason="a\nb"), event(2, payload={"n": 1}, payloadWithheld=False)
    host.on("GET", EVENTS, Answer(200, {"events": [withheld, shown]}))
    first, second = command("events", "tail", "--stream", "sandbox-policy").stdout.splitlines()
    assert first.startswith("1  ")
    assert first.endswith("sandbox-policy@7  sandbox-policy-changed by ada: a\\nb")
    assert second.endswith('incident 12 {"n": 1}')


def test_tail_json_is_one_document(command: Command, host: FakeHost) -> None:
    host.on("GET", EVENTS, Answer(200, {"events": [event(1)]}))
    assert command("events", "tail", "--json").json == {"events": [event(1)]}


def test_follow_asks_for_what_comes_after_the_last_and_prints_a_line_each(
    command: Command, host: FakeHost
) -> None:
    outcome, asked = follow(command, host, [event(1)], [], [event(2), event(5)], [event(6)])
    *shown, last = (json.loads(line) for line in outcome.stdout.splitlines())
    assert [one["position"] for one in shown] == [1, 2, 5, 6]
    assert last["error"]["message"] == "stopped"
    assert asked == ["1", "1", "5", "6"]
    assert outcome.status == 1
    assert "stopped" in outcome.stderr
    assert "reconnecting" not in outcome.stderr


def follow(
    command: Command, host: FakeHost, *answers: list[dict[str, Any]] | Answer
) -> tuple[Outcome, list[str]]:
    """Follow a host that gives these answers and then refuses: what came out, and after which positions it asked."""
    left = iter(answers)
    asked: list[str] = []

    def answer(request: Request) -> Answer:
        wanted = query(request)
        if wanted.get("limit") == "1":
            return Answer(200, {"events": [event(9)]})
        if "after" in wanted:
            asked.append(wanted["after"])
        given = next(left, None)
        if given is None:
            return problem(403, "stopped")
        return given if isinstance(given, Answer) else Answer(200, {"events": given})

    host.on("GET", EVENTS, answer)
    return command("events", "tail", "--follow", "--json"), asked


def test_follow_goes_on_from_where_it_was_when_the_host_was_away(
    command: Command, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "RETRY_SECONDS", 0.0)
    gone, silent = Answer(200, raw=b"", hang_up=True), problem(502, "Bad Gateway")
    outcome, asked = follow(command, host, [event(1)], [event(4)], gone, silent, silent, [event(5)])
    *shown, _ = (json.loads(line) for line in outcome.stdout.splitlines())
    assert [one["position"] for one in shown] == [1, 4, 5]
    assert asked == ["1", "4", "4", "4", "4", "5"]
    assert outcome.stderr.count("reconnecting") == 3, "once each time that it goes away"
    assert outcome.stderr.count("The host is back.") == 3


def test_follow_does_not_go_on_in_another_database(
    command: Command, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "RETRY_SECONDS", 0.0)
    outcome, asked = follow(command, host, [event(12)])
    assert asked == []
    assert outcome.status == 1
    assert "ends at position 9, but was shown up to 12" in outcome.stderr


def test_follow_does_not_wait_for_what_a_database_that_was_set_back_under_its_host_has_lost(
    command: Command, host: FakeHost
) -> None:
    outcome, asked = follow(command, host, [event(8)], [event(12)], [])
    assert asked == ["8", "12"]
    assert "ends at position 9, but was shown up to 12" in outcome.stderr


def test_failed_shows_which_group_failed_and_why(command: Command, host: FakeHost) -> None:
    host.on("GET", f"{EVENTS}/failed", Answer(200, {"failed": [FAILED]}))
    shown = command("events", "failed").stdout
    assert "mailer/letters" in shown
    assert "noted at 12" in shown
    assert "\\x1b[31mno" in shown
    assert command("events", "failed", "--json").json == {"failed": [FAILED]}


@pytest.mark.parametrize(("arguments", "body"), [(("3", "4"), {"ids": [3, 4]}), (("--all",), {"all": True})])
def test_replay_names_the_events_or_all(
    command: Command, host: FakeHost, arguments: tuple[str, ...], body: dict[str, Any]
) -> None:
    host.on("POST", f"{EVENTS}/replay", Answer(202, {"replaying": [3, 4]}))
    assert "will try 2 failed events again" in command("events", "replay", *arguments).stdout
    assert host.only("POST").body == body


@pytest.mark.parametrize("arguments", [(), ("3", "--all")])
def test_replay_of_nothing_or_of_both_is_a_usage_mistake(
    command: Command, host: FakeHost, arguments: tuple[str, ...]
) -> None:
    outcome = command("events", "replay", *arguments)
    assert outcome.status == 2
    assert "ringfence events failed" in outcome.stderr


def test_verify_prints_the_head_to_be_noted(command: Command, host: FakeHost) -> None:
    found = {"intact": True, "head": {"revision": 4, "hash": "ab" * 32}, "problem": None}
    host.on("GET", VERIFY, Answer(200, found))
    outcome = command("policy", "verify")
    assert outcome.status == 0
    assert outcome.stdout.splitlines()[-1] == f"4:{'ab' * 32}"
    assert command("policy", "verify", "--json").json == found


def test_verify_names_the_first_revision_that_does_not_fit_and_fails(
    command: Command, host: FakeHost
) -> None:
    found = {
        "intact": False,
        "head": {"revision": 4, "hash": "ab" * 32},
        "problem": {"revision": 2, "where": "Revision 2", "what": "does not fit its hash"},
    }
    host.on("GET", VERIFY, Answer(200, found))
    outcome = command("policy", "verify", "--anchor", f"1:{'cd' * 32}")
    assert outcome.status == 1
    assert "Revision 2 does not fit its hash" in outcome.stdout
    assert query(host.only("GET"))["anchor"] == f"1:{'cd' * 32}"
    assert command("policy", "verify", "--json").status == 1
