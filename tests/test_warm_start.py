"""A program that is started warm is what it would be if it had been started from nothing."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ringfence_notifications.delivery import sending

from tests import warm_start
from tests.warm_process import heed_interrupts, take_terminal
from tests.warm_start import cold

ME = [sys.executable, "-m", "tests.test_warm_start"]


def describe() -> None:
    """Print what this process is, and end with a status of its own."""
    status = Path("/proc/self/status").read_text().splitlines()
    signals = {line.split()[0]: line.split()[1] for line in status if line.startswith(("SigIgn", "SigBlk"))}
    told = {
        "arguments": sys.argv[1:],
        "asked": os.environ.get("ASKED"),
        "directory": os.getcwd(),
        "has parent": os.getppid() == int(os.environ["PARENT"]),
        "leads a session": os.getsid(0) == os.getpid(),
        "name": __name__,
        "open": sorted(os.listdir("/proc/self/fd"))[:4],
        "path": [each for each in sys.path if "elsewhere" in each],
        "signals": signals,
        "streams": [
            (one.encoding, one.errors, one.isatty(), one.line_buffering)
            for one in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "typed": sys.stdin.read() if not sys.stdin.isatty() else None,
    }
    sys.stdout.write(json.dumps(told))
    sys.exit(int(sys.argv[1]))


def both(*arguments: str, **options: object) -> list[tuple[int, str, str]]:
    """How it ends and what it prints, warm and cold."""
    environ = {**os.environ, "PARENT": str(os.getpid()), "ASKED": "yes", "PYTHONPATH": "/elsewhere"}

    def run() -> tuple[int, str, str]:
        done = subprocess.run(
            [*ME, *arguments], capture_output=True, text=True, timeout=60, env=environ, **options
        )  # type: ignore[call-overload]
        return done.returncode, done.stdout, done.stderr

    warm = run()
    with cold():
        return [warm, run()]


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was asked of the process that programs are forked from."""
    asked: list[bytes] = []
    start = warm_start._Forking.start

    def noted(self: warm_start._Forking, what: bytes, streams: Sequence[int]) -> int:
        asked.append(what)
        return start(self, what, streams)

    monkeypatch.setattr(warm_start._Forking, "start", noted)
    return asked


@pytest.mark.parametrize(
    "options",
    [
        {"input": "words"},
        {"stdin": subprocess.DEVNULL, "start_new_session": True},
        {"stdin": subprocess.DEVNULL, "preexec_fn": heed_interrupts},
    ],
    ids=["plain", "session", "signals"],
)
def test_it_is_as_from_nothing(options: dict[str, object], forks: list[bytes]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        warm, from_nothing = both("3", "a b", cwd=Path(__file__).parents[1], **options)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(forks) == 1
    assert json.loads(warm[1])["has parent"]
    assert warm == from_nothing
    assert warm[0] == 3


def test_at_a_terminal_of_its_own_it_is_as_from_nothing(forks: list[bytes]) -> None:
    def shown() -> str:
        screen, terminal = pty.openpty()
        environ = {**os.environ, "PARENT": str(os.getpid())}
        with subprocess.Popen(
            [*ME, "0"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environ,
            start_new_session=True,
            preexec_fn=take_terminal,
        ) as process:
            os.close(terminal)
            assert process.wait(60) == 0
            with open(screen, "rb", buffering=0) as printed:
                return printed.read(65536).decode()

    warm = shown()
    with cold():
        assert shown() == warm
    assert len(forks) == 1


def test_how_it_ends_is_as_from_nothing(forks: list[bytes]) -> None:
    for words in (["no number"], ["-2"]):
        warm, from_nothing = both(*words)
        assert warm[0] == from_nothing[0]
        assert warm[2].splitlines()[-1:] == from_nothing[2].splitlines()[-1:]
    assert len(forks) == 2


@pytest.mark.parametrize("address", ["json://127.0.0.1:1/", "nonsense://x", "json://"])
def test_the_program_that_sends_messages_is_as_from_nothing(address: str, forks: list[bytes]) -> None:
    order = {"address": address, "seconds": 5, "id": "1", "title": "a", "text": "b", "kind": "info"}

    def answered() -> str:
        return subprocess.run(
            [sys.executable, "-I", "-m", sending.PROGRAM],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.defpath},
        ).stdout

    warm = answered()
    with cold():
        from_nothing = answered()
    assert len(forks) == 1
    assert [*json.loads(warm)] == [*json.loads(from_nothing)] == ["error" if "1" in address else "forms"]


async def test_asyncio_starts_it_and_hears_of_its_end(forks: list[bytes]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ringfence", "--version"), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert (process.returncode, printed) == (0, b"ringfence 0.1.0\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.test_warm_start", "wait"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"waiting\n"
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == -signal.SIGTERM
    assert len(forks) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"env": {**os.environ, "PYTHONUNBUFFERED": "1"}},
        {"env": {**os.environ, "LD_PRELOAD": ""}},
        {"preexec_fn": lambda: None},
        {"umask": 0o77},
        {"pass_fds": [0]},
    ],
    ids=["Python's own", "the loader's", "what is run before", "umask", "more descriptors"],
)
def test_what_a_forked_process_cannot_be_given_is_started_from_nothing(
    options: dict[str, object], forks: list[bytes]
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ringfence", "--version"], capture_output=True, **options
    )  # type: ignore[call-overload]
    assert done.stdout == b"ringfence 0.1.0\n"
    assert forks == []


if __name__ == "__main__":
    if sys.argv[1] == "wait":
        print("waiting", flush=True)
        signal.pause()
    describe()
