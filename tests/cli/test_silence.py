"""`ringfence silence`: what it asks of the host and shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost

SILENCES, CHECKS = "/api/health-checks/silences", "/api/health-checks/checks"


def silence(**fields: Any) -> dict[str, Any]:
    return {
        "id": "id-1",
        "check": None,
        "label": "env=dev",
        "satellite": None,
        "reason": "a\x1b[2J disk",
        "from": "2026-01-01T00:00:00Z",
        "until": "2026-01-01T02:00:00Z",
        "active": True,
        "createdBy": "admin",
        "endedBy": None,
        **fields,
    }


def test_a_silence_is_added_for_a_while_and_ended(command: Command, host: FakeHost) -> None:
    host.on("POST", SILENCES, Answer(201, silence()))
    outcome = command("silence", "add", "--label", "env=dev", "--for", "2h", "--reason", "a disk")
    assert (outcome.status, "id-1" in outcome.stdout) == (0, True), outcome.stderr
    assert host.only("POST").body == {"label": "env=dev", "forSeconds": 7200.0, "reason": "a disk"}
    host.on("DELETE", f"{SILENCES}/id-1", Answer(200, silence(active=False)))
    assert command("silence", "end", "id-1").stdout == "The silence id-1 is ended.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--for", "2h", "--reason", "x"),
        ("--label", "a", "--reason", "x"),
        ("--label", "a", "--for", "2h", "--until", "2030-01-01T00:00:00Z", "--reason", "x"),
        ("--label", "a", "--for", "2h"),
        ("--label", "a", "--for", "soon", "--reason", "x"),
    ],
)
def test_a_silence_that_is_not_whole_is_refused_before_the_host_is_asked(
    command: Command, host: FakeHost, arguments: tuple[str, ...]
) -> None:
    assert command("silence", "add", *arguments).status == 2
    assert host.requests == []


def test_silences_are_listed_with_names_and_without_control_characters(
    command: Command, host: FakeHost
) -> None:
    host.on("GET", CHECKS, Answer(200, {"checks": [{"id": "c", "name": "disk"}], "next": None}))
    host.on("GET", "/api/satellite/satellites", Answer(200, {"satellites": [{"id": "s", "name": "berlin"}]}))
    found = [silence(), silence(id="id-2", label=None, check="c", satellite="s", active=False, endedBy="eve")]
    host.on("GET", SILENCES, Answer(200, {"silences": found, "next": None}))
    shown = command("silence", "list", "--ended").stdout
    assert "\x1b" not in shown
    assert all(part in shown for part in ("label env=dev", "check disk, on berlin", "active", "ended by eve"))
    assert command("silence", "list", "--json").json == {"silences": found}
