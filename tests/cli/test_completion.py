"""A shell is given the names of a host's things, at once or not at all: asked as bash, zsh and fish ask."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.fake_host import Answer, FakeHost
from tests.cli.instances import RINGFENCE

NAMES = {"edge-1": "edge-1", "edge-2": "edge-2", "other": "other"}
LISTS = {
    ("satellite", "show"): ("/api/satellite/satellites", "satellites"),
    ("check", "show"): ("/api/health-checks/checks", "checks"),
    ("automation", "show"): ("/api/automations/automations", "automations"),
    ("secret", "delete"): ("/api/secrets/secrets", "secrets"),
    ("notify", "test"): ("/api/notifications/channels", "channels"),
    ("packages", "delete"): ("/api/script-packages/packages/sets", "sets"),
}


def asked(shell: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What the program answers to a shell that completes the last word."""
    line = " ".join(("ringfence", *words))
    how = (
        {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        if shell == "bash"
        else {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    return subprocess.run(
        RINGFENCE,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "_RINGFENCE_COMPLETE": f"complete_{shell}", **how},
    )


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_names_come_from_the_host(words: tuple[str, str], host: FakeHost) -> None:
    path, entries = LISTS[words]
    host.on("GET", path, Answer(200, {entries: [{"name": name} for name in NAMES], "next": None}))
    answer = asked("bash", *words, "ed")
    assert answer.stdout.split() == ["edge-1", "edge-2"], answer
    assert answer.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_answered_too(shell: str, host: FakeHost) -> None:
    path, entries = LISTS["satellite", "show"]
    host.on("GET", path, Answer(200, {entries: [{"name": name} for name in NAMES], "next": None}))
    answer = asked(shell, "satellite", "show", "ed")
    assert "edge-1" in answer.stdout
    assert "other" not in answer.stdout


def test_the_host_that_the_line_names_is_asked(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGFENCE_URL")
    path, entries = LISTS["check", "show"]
    host.on("GET", path, Answer(200, {entries: [{"name": "disk"}], "next": None}))
    for words in (("--url", host.url, "check", "show", "d"), ("check", "show", "--url", host.url, "d")):
        assert asked("bash", *words).stdout.split() == ["disk"]


def test_without_a_host_nothing_is_said() -> None:
    answer = asked("bash", "satellite", "show", "ed")
    assert (answer.stdout.strip(), answer.stderr) == ("", "")
