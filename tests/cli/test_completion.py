"""A shell is given the names of a host's things, at once or not at all: asked as bash, zsh and fish ask."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ringfence.cli import completing
from ringfence.cli.profiles import Profile, Profiles

from tests.cli.conftest import Command, Outcome
from tests.cli.fake_host import Answer, FakeHost
from tests.cli.instances import RINGFENCE

Ask = Callable[..., Outcome]

NAMES = {"edge-1": "edge-1", "edge-2": "edge-2", "other": "other"}
LISTS = {
    ("satellite", "show"): ("/api/satellite/satellites", "satellites"),
    ("check", "show"): ("/api/health-checks/checks", "checks"),
    ("automation", "show"): ("/api/automations/automations", "automations"),
    ("secret", "delete"): ("/api/secrets/secrets", "secrets"),
    ("notify", "test"): ("/api/notifications/channels", "channels"),
    ("packages", "delete"): ("/api/script-packages/packages/sets", "sets"),
    ("run", "--satellite"): ("/api/satellite/satellites", "satellites"),
    ("run", "--packages"): ("/api/script-packages/packages/sets", "sets"),
}
FAILED = {
    ("events", "replay"): ("/api/host/events/failed", "failed"),
    ("notify", "ack"): ("/api/notifications/incidents", "incidents"),
    ("notify", "retry"): ("/api/notifications/messages", "messages"),
}
"""What is there only after something has failed, and has a number or an id for a name."""


def variables(shell: str, *words: str) -> dict[str, str]:
    """What a shell that completes the last word puts into the program's environment."""
    line = " ".join(("ringfence", *words))
    how = (
        {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}
        if shell == "bash"
        else {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    return {"_RINGFENCE_COMPLETE": f"complete_{shell}", **how}


@pytest.fixture
def asked(command: Command, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ask, in this process, as a shell asks that completes the last word."""

    def ask(shell: str, *words: str) -> Outcome:
        for name, value in variables(shell, *words).items():
            monkeypatch.setenv(name, value)
        return command()

    return ask


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_program_answers_every_shell(shell: str, host: FakeHost) -> None:
    path, entries = LISTS["satellite", "show"]
    host.on("GET", path, Answer(200, {entries: [{"name": name} for name in NAMES], "next": None}))
    answer = subprocess.run(
        RINGFENCE,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables(shell, "satellite", "show", "ed")},
    )
    assert "edge-1" in answer.stdout, answer
    assert "other" not in answer.stdout
    assert answer.stderr == ""


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_names_come_from_the_host(words: tuple[str, str], host: FakeHost, asked: Ask) -> None:
    path, entries = LISTS[words]
    host.on("GET", path, Answer(200, {entries: [{"name": name} for name in NAMES], "next": None}))
    answer = asked("bash", *words, "ed")
    assert answer.stdout.split() == ["edge-1", "edge-2"], answer
    assert answer.stderr == ""


@pytest.mark.parametrize("words", FAILED, ids=" ".join)
def test_ids_come_from_the_host(words: tuple[str, str], host: FakeHost, asked: Ask) -> None:
    path, entries = FAILED[words]
    host.on("GET", path, Answer(200, {entries: [{"id": 17}, {"id": 23}], "next": None}))
    assert asked("bash", *words, "1").stdout.split() == ["17"]


def test_the_host_that_the_line_names_is_asked(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch, asked: Ask
) -> None:
    monkeypatch.delenv("RINGFENCE_URL")
    path, entries = LISTS["check", "show"]
    host.on("GET", path, Answer(200, {entries: [{"name": "disk"}], "next": None}))
    for words in (("--url", host.url, "check", "show", "d"), ("check", "show", "--url", host.url, "d")):
        assert asked("bash", *words).stdout.split() == ["disk"]


def test_without_a_host_nothing_is_said(asked: Ask) -> None:
    answer = asked("bash", "satellite", "show", "ed")
    assert (answer.stdout.strip(), answer.stderr) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_would_not_take_as_it_is_is_not_offered(shell: str, host: FakeHost, asked: Ask) -> None:
    names = ["edge-1", "edge-$(id)", "edge `id`", "edge\n;id", "edge*", "edge'", "edge-\x1b[2J", "edge>x"]
    host.on(
        "GET", "/api/satellite/satellites", Answer(200, {"satellites": [{"name": name} for name in names]})
    )
    answer = asked(shell, "satellite", "show", "ed").stdout
    assert "edge-1" in answer
    assert not set("$`;*>\x1b") & set(answer.replace("_arguments '*: :((\"", "").replace("))'", ""))


def test_the_profiles_of_this_machine_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Ask
) -> None:
    for name in ("core", "test"):
        Profiles.read().kept(Profile(name, f"https://{name}.example.org", "rft_x"), keyring=False)
    for words in (
        ("--profile",),
        ("policy", "show", "--profile"),
        ("logout", "--profile"),
        ("profiles", "--use"),
    ):
        assert asked("bash", *words, "").stdout.split() == ["local", "core", "test"]


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{"], ids=["silent", "slow"]
)
def test_a_host_that_does_not_answer_holds_up_nobody(
    answer: bytes, monkeypatch: pytest.MonkeyPatch, asked: Ask
) -> None:
    assert completing.SECONDS < completing.ALTOGETHER_SECONDS < 5
    monkeypatch.setattr(completing, "SECONDS", 0.3)
    monkeypatch.setattr(completing, "ALTOGETHER_SECONDS", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as opened:

        def drip() -> None:
            connection = opened.enter_context(listener.accept()[0])
            connection.sendall(answer)
            with contextlib.suppress(OSError):
                while answer:
                    connection.sendall(b" ")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        monkeypatch.setenv("RINGFENCE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("RINGFENCE_TOKEN", "rft_x")
        told = asked("bash", "satellite", "show", "ed")
    assert (told.stdout.strip(), told.stderr, told.status) == ("", "", 0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, {"title": "no"}),
        Answer(500, raw=b"no"),
        Answer(200, raw=b"<html>"),
        Answer(200, {"other": []}),
        Answer(200, {"satellites": [1, {"name": None}]}),
        Answer(200, hang_up=True),
    ],
    ids=["refuses", "fails", "is-no-host", "other-list", "other-entries", "hangs-up"],
)
def test_a_host_that_answers_something_else_is_not_told_of(
    answer: Answer, host: FakeHost, asked: Ask
) -> None:
    host.on("GET", "/api/satellite/satellites", answer)
    told = asked("bash", "satellite", "show", "ed")
    assert (told.stdout.strip(), told.stderr) == ("", "")


def test_wrong_files_of_this_machine_are_not_told_of(tmp_path: Path, asked: Ask) -> None:
    (tmp_path / "config/ringfence").mkdir(parents=True)
    (tmp_path / "config/ringfence/profiles.json").write_text("{")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/settings.env").write_text("RINGFENCE_PORT")
    for words in (("satellite", "show"), ("policy", "show", "--profile")):
        told = asked("bash", *words, "")
        assert (told.stdout.strip(), told.stderr) == ("", "")
