"""Tables and facts in any room: no word is cut or broken, no line is wider than it must be, nothing is lost unsaid."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text
from ringfence.cli import tables

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost
from tests.cli.terminal import at_a_terminal

COLUMNS = ("name", "what changed", "id")
WORDS = st.text(st.sampled_from("abc-.0猫é"), min_size=1, max_size=30)
CELLS = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), max_size=3).map("\n".join)
TABLES = st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4)
ROOMS = st.integers(1, 120)


def texts(rows: list[tuple[str, str, str]]) -> list[list[Text]]:
    return [[Text(cell) for cell in row] for row in rows]


def words(*pieces: str) -> list[str]:
    return sorted(word for piece in pieces for word in piece.split())


@given(TABLES, ROOMS)
def test_a_table_that_fits_has_each_word_whole_and_no_line_too_wide(
    rows: list[tuple[str, str, str]], room: int
) -> None:
    shape = tables.fitted(COLUMNS, texts(rows), room, ("id", "name"))
    if shape is None:
        return
    kept = [COLUMNS[index] for index in shape.columns]
    assert sorted([*kept, *shape.left_out]) == sorted(COLUMNS)
    assert "what changed" in kept
    lines = [line.plain for line in tables.table_lines(COLUMNS, texts(rows), shape, rule="=")]
    cells = (row[index] for row in rows for index in shape.columns)
    assert words(*(line for line in lines if set(line) != {"="})) == words(*kept, *cells)
    assert max(map(cell_len, lines)) <= room


@given(TABLES, ROOMS)
def test_records_have_each_word_whole_and_only_words_too_wide(
    rows: list[tuple[str, str, str]], room: int
) -> None:
    lines = [line.plain for line in tables.record_lines(COLUMNS, texts(rows), room)]
    labels = [name for row in rows for name, cell in zip(COLUMNS, row, strict=True) if cell]
    assert words(*lines) == words(*labels, *(cell for row in rows for cell in row))
    for line in lines:
        assert cell_len(line) <= room or len(line.split()) == 1 or line in COLUMNS


def test_columns_that_can_be_spared_go_one_by_one_and_only_where_folding_is_not_enough() -> None:
    rows = [[Text("x" * 10), Text("some words that can well be folded"), Text("y" * 10)]]

    def left_out(room: int) -> tuple[str, ...] | None:
        shape = tables.fitted(COLUMNS, rows, room, ("id", "name"))
        return None if shape is None else shape.left_out

    assert [left_out(room) for room in (58, 40, 39, 28, 27, 16, 15)] == [
        (),
        (),
        ("id",),
        ("id",),
        ("name", "id"),
        ("name", "id"),
        None,
    ]


def test_a_script_keeps_the_spaces_before_its_lines() -> None:
    [first, second] = tables.fact_lines([("script", Text("if true; then\n    echo"))], 80)
    assert (first.plain, second.plain) == ("script  if true; then", "            echo")


LONG = "6d9c5c5e-8f5b-4a55-9d53-53f3d4f0b0f1"
SEEN = {
    "ranOn": LONG,
    "status": "degraded",
    "latencyMs": 12.4,
    "message": "the certificate of www.example.org ends in 12 days",
    "executedAt": "2026-01-01T00:00:00Z",
    "metrics": {"days": 12},
}
CHECK = {
    "id": LONG,
    "name": f"check-{LONG}",
    "system": f"system-{LONG}",
    "kind": "shell",
    "script": f"echo {LONG} {LONG}",
    "intervalSeconds": 5,
    "timeoutSeconds": 30,
    "runsOn": {"core": False, "satellites": [LONG], "tags": []},
    "secrets": [],
    "enabled": True,
    "updatedAt": "2026-01-01T00:00:00Z",
    "updatedBy": "admin",
    "latest": [SEEN],
}
SATELLITE = {
    "id": LONG,
    "name": f"satellite-{LONG}",
    "region": "eu-central-1",
    "tags": ["production", "gateway"],
    "status": "online",
    "appliedRevision": 123456789,
    "enforced": {"network": True},
    "version": "0.1.0",
    "offlineAfterSeconds": 45,
}
CHANGE = {"path": "network.allow", "before": [], "after": ["192.168.100.100:8443", "10.1.0.0/16"]}
REVISION = {"revision": 123456789, "actor": f"admin-{LONG}", "reason": "why not", "changes": [CHANGE]}
FAILED = {
    "id": 123456789,
    "plugin": "mailer",
    "workerGroup": "letters",
    "attempts": 4,
    "error": "ValueError: no such letter",
    "failedAt": "2026-01-01T00:00:00Z",
    "replaying": False,
    "position": 987654321,
    "hook": "letter-has-been-written",
}
LAGGING = {"name": LONG, "region": "eu", "appliedRevision": 123456788, "lastHeartbeatAt": None}
ROLLOUT = {
    "revision": 123456789,
    "applied": 0,
    "online": 1,
    "offline": 0,
    "never": 0,
    "percent": 0,
    "lagging": [LAGGING],
    "laggingCount": 1,
    "downgraded": [],
    "complete": False,
}
ANSWERS = {
    "satellite/satellites": {"satellites": [SATELLITE]},
    "health-checks/checks": {"checks": [CHECK]},
    f"health-checks/checks/{LONG}/results": {"results": [SEEN]},
    "script-packages/sandbox-policy/history": {"revisions": [REVISION]},
    "script-packages/sandbox-policy": {"revision": 123456789, "policy": {"network": {"allow": [LONG]}}},
    "host/tokens": {"tokens": [{"name": f"token-{LONG}", "rules": [f"rule.{LONG}"], "createdAt": None}]},
    "secrets/secrets": {"secrets": [{"name": "A", "updatedAt": None, "updatedBy": "admin", "keyId": LONG}]},
    "host/events/failed": {"failed": [FAILED]},
    "satellite/rollout": ROLLOUT,
}
COMMANDS = {
    ("satellite", "list"): (f"satellite-{LONG}", "123456789"),
    ("satellite", "show", LONG): (f"satellite-{LONG}", LONG, "123456789"),
    ("check", "list"): (f"check-{LONG}", f"satellite-{LONG}", "www.example.org"),
    ("check", "show", LONG): (LONG, f"check-{LONG}", f"system-{LONG}", f"echo {LONG} {LONG}"),
    ("check", "results", LONG): (f"satellite-{LONG}", "www.example.org", "days=12"),
    ("policy", "history"): ("123456789", f"admin-{LONG}", "192.168.100.100:8443", "10.1.0.0/16"),
    ("policy", "show"): ("123456789", "network.allow", LONG),
    ("policy", "rollout"): (LONG, "123456788", "123456789"),
    ("token", "list"): (f"token-{LONG}", f"rule.{LONG}"),
    ("secret", "list"): ("A", LONG),
    ("events", "failed"): ("123456789", "letter-has-been-written", "987654321", "mailer/letters"),
}
every_command = pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)


@pytest.fixture
def full_host(host: FakeHost) -> FakeHost:
    for path, answer in ANSWERS.items():
        host.on("GET", f"/api/{path}", Answer(200, answer))
    return host


WIDTHS = [(arguments, 40) for arguments in COMMANDS] + [(("check", "list"), 60), (("policy", "history"), 80)]
"""How wide a terminal is; what fits in which is told of all tables above."""


@pytest.mark.parametrize(("arguments", "width"), WIDTHS, ids=str)
def test_what_is_copied_is_whole_at_a_narrow_terminal(
    arguments: tuple[str, ...], width: int, full_host: FakeHost
) -> None:
    shown = at_a_terminal(width, *arguments, environ={"NO_COLOR": "1", "TERM": "dumb"})
    assert "\x1b" not in shown
    assert "…" not in shown
    assert [word for word in COMMANDS[arguments] if word not in shown] == []
    if arguments[1] != "rollout":  # which begins with a sentence
        assert [line for line in shown.splitlines() if cell_len(line) > width and len(line.split()) > 3] == []


@every_command
def test_a_pipe_has_all_the_room_there_is_whatever_columns_says(
    arguments: tuple[str, ...], full_host: FakeHost, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR")
    piped = command(*arguments)
    assert "\x1b" not in piped.stdout
    assert "Hidden to fit" not in piped.stderr
    if "list" in arguments or "history" in arguments:
        assert any(all(word in line for word in COMMANDS[arguments]) for line in piped.stdout.splitlines())
    assert [line for line in piped.stdout.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize(
    ("environ", "colours", "styles"),
    [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)],
    ids=str,
)
def test_colours_are_for_terminals_that_want_them(
    environ: dict[str, str], colours: bool, styles: bool, full_host: FakeHost
) -> None:
    shown = at_a_terminal(120, "satellite", "list", environ=environ)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)) is colours
    assert ("\x1b[" in shown) is styles


def test_what_is_left_out_is_said(full_host: FakeHost) -> None:
    berlin = {**SATELLITE, "name": "berlin"}
    full_host.on("GET", "/api/satellite/satellites", Answer(200, {"satellites": [berlin]}))
    shown = at_a_terminal(80, "satellite", "list", environ={"NO_COLOR": "1", "TERM": "dumb"})
    assert "Hidden to fit the terminal: " in shown
    assert "all layers" in shown
