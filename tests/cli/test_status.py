"""`ringfence status` says in at most ten lines how the host is, and by its exit status whether all is well."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ringfence.cli.commands.status import LINES, lines_of

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost

WELL: dict[str, Any] = {
    "ok": True,
    "instance": "01234567-89ab-cdef-0123-456789abcdef",
    "version": "1.2",
    "ready": True,
    "draining": False,
    "database": "ok",
    "eventsBehind": 0,
    "plugins": ["satellite", "secrets"],
    "leftOut": [],
    "silent": [],
    "counts": [{"what": "policy revision", "number": 3.0, "unit": ""}],
    "attention": [],
    "hidden": 0,
}
TROUBLE = {"text": "2 satellites are offline: \x1b[31meu-1.", "kind": "bad", "at": "/satellites"}


def test_all_is_well(command: Command, host: FakeHost) -> None:
    host.on("GET", "/api/host/status", Answer(200, WELL))
    done = command("status")
    assert done.status == 0
    assert done.stdout.splitlines() == [
        "Host 1.2: ready",
        "Plugins: 2 run",
        "Numbers: policy revision: 3",
        "Nothing needs attention.",
    ]


def test_something_is_wrong(command: Command, host: FakeHost) -> None:
    told = WELL | {"ok": False, "attention": [TROUBLE] * 30, "leftOut": ["mailer"], "hidden": 4}
    host.on("GET", "/api/host/status", Answer(200, told))
    done = command("status")
    assert done.status == 1
    lines = done.stdout.splitlines()
    assert len(lines) == LINES
    assert lines[1] == "Plugins: 2 run; left out: mailer"
    assert "\x1b" not in done.stdout
    assert lines[-1].startswith("And 28 more:")
    shown = command("status", "--json")
    assert (shown.status, json.loads(shown.stdout)) == (1, told)


@pytest.mark.parametrize("attention", range(40))
@pytest.mark.parametrize("more", [{}, {"hidden": 3}, {"silent": ["slow"]}])
def test_there_are_never_more_than_ten_lines(attention: int, more: dict[str, Any]) -> None:
    lines = lines_of(WELL | {"attention": [TROUBLE] * attention, **more})
    assert len(lines) <= LINES
    told = sum(text == TROUBLE["text"] for text, _ in lines)
    rest = attention - told + more.get("hidden", 0)
    assert any(text.startswith(f"And {rest} more:") for text, _ in lines) == bool(rest)
