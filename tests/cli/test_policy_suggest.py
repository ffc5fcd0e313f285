"""`ringfence policy suggest` shows who has asked for what, and puts it into the policy only after a yes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost
from tests.cli.test_policy import POLICY, foresees, state

SUGGESTIONS = "/api/health-checks/suggestions"
CHECKS = "/api/health-checks/checks"
DISK: dict[str, Any] = {"id": "7", "name": "disk\x1b[2J", "tries": 9, "lastAt": "2026-01-01T00:00:00+00:00"}
ALLOW = {
    "entry": "api.example.com:443",
    "tries": 12,
    "outcomes": ["refused"],
    "guessed": True,
    "checks": [DISK, {**DISK, "name": "web", "tries": 3}],
    "checkCount": 30,
}
PATCH = {"network": {"mode": "allowlist", "allow": ["api.example.com:443"]}}
UNFIT = {"host": "169.254.169.254", "port": 80, "protocol": "tcp", "why": "it is link-local"}


def suggests(host: FakeHost, **more: Any) -> None:
    found = {
        "since": "2026-01-01T00:00:00+00:00",
        "revision": 7,
        "allow": [ALLOW],
        "more": 0,
        "patch": PATCH,
        "needs": [
            {"check": {"id": "7", "name": "disk"}, "needs": {"network": ["db:5432"]}, "entries": []},
        ],
        "unfit": [{**UNFIT, "checks": [DISK], "checkCount": 1}],
        **more,
    }
    host.on("GET", SUGGESTIONS, Answer(200, found))
    host.on(
        "GET", CHECKS, Answer(200, {"checks": [{"id": "7", "name": "disk", "needs": {"memoryBytes": 2**30}}]})
    )
    host.on("GET", POLICY, Answer(200, state(7)))


def test_each_entry_is_shown_with_who_asked_for_it_and_how_often(command: Command, host: FakeHost) -> None:
    suggests(host)
    outcome = command("policy", "suggest")
    assert outcome.status == 0
    assert "api.example.com:443 ?" in outcome.stdout
    assert r"disk\x1b[2J (9), web (3) and 28 more" in outcome.stdout
    assert "12 times" in outcome.stdout
    assert "169.254.169.254 tcp 80" in outcome.stdout
    assert "it is a guess" in outcome.stderr
    assert [one.method for one in host.requests] == ["GET"]


def test_it_is_of_one_check_or_of_some_time_if_that_is_wanted(command: Command, host: FakeHost) -> None:
    suggests(host)
    outcome = command("policy", "suggest", "--check", "disk", "--since", "12h")
    assert "disk needs, of the network: db:5432" in outcome.stdout
    assert "check=7" in host.requests[-1].path
    assert "since=" in host.requests[-1].path


def test_json_is_the_answer(command: Command, host: FakeHost) -> None:
    suggests(host)
    assert command("policy", "suggest", "--json").json["patch"] == PATCH


def test_what_is_applied_is_foreseen_and_asked_about_first(command: Command, host: FakeHost) -> None:
    suggests(host)
    foresees(host, looser=["network.allow: scripts may connect to api.example.com:443"])
    host.on("PATCH", POLICY, Answer(200, state(8, network={"mode": "deny"})))
    refused = command("policy", "suggest", "--apply")
    assert refused.status == 1
    assert "--yes" in refused.stderr
    assert not [one for one in host.requests if one.method == "PATCH"]
    assert command("policy", "suggest", "--apply", "--yes", "--json").json["revision"] == 8
    sent = host.only("PATCH")
    assert sent.body == {"policy": PATCH, "reason": "ringfence policy suggest"}
    assert sent.headers["if-match"] == '"7"'


def test_there_may_be_nothing_to_apply(command: Command, host: FakeHost) -> None:
    suggests(host, allow=[], patch=None)
    assert "The policy allows all" in command("policy", "suggest").stdout
    assert command("policy", "suggest", "--apply", "--yes").status == 1


def test_a_check_can_be_held_to_what_it_tried(command: Command, host: FakeHost) -> None:
    suggests(host)
    host.on("PATCH", f"{CHECKS}/7", Answer(200, {"name": "disk"}))
    assert command("policy", "suggest", "--check", "disk", "--apply-needs").status == 1
    assert command("policy", "suggest", "--check", "disk", "--apply-needs", "--yes").status == 0
    assert host.only("PATCH").body == {"needs": {"memoryBytes": 2**30, "network": ["db:5432"]}}


@pytest.mark.parametrize(
    "arguments",
    [("--apply-needs",), ("--check", "disk", "--apply", "--apply-needs"), ("--since", "soon")],
)
def test_wrong_arguments_reach_no_host(command: Command, host: FakeHost, arguments: tuple[str, ...]) -> None:
    outcome = command("policy", "suggest", *arguments)
    assert (outcome.status, host.requests) == (2, [])
