"""Where kept logs are read: files that grow and make room for new ones, and the journal of a unit."""

from __future__ import annotations

import contextlib
import datetime as dt
import heapq
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

from ringfence.cli.log_lines import EARLIEST, Line, of_journal, parsed
from ringfence.process.errors import CliError
from ringfence.process.kept_logs import Kept

LOOK_SECONDS = 0.2


class Source(Protocol):
    """One program's log."""

    def history(self) -> Iterator[Line]:
        """What there is, the oldest first."""
        ...

    def more(self) -> Iterator[Line]:
        """What has come since, without waiting. Raises `CliError`."""
        ...

    def close(self) -> None:
        """Let go of what it reads from."""
        ...


def source(log: Kept, since: dt.datetime | None) -> Source:
    """Where a log is read."""
    return _Files(log) if log.unit is None else _Journal(log, since)


def history(sources: Sequence[Source]) -> Iterator[Line]:
    """All lines that there are, in the order of their times. Raises `CliError`."""
    return heapq.merge(*(one.history() for one in sources), key=lambda line: line.at)


def follow(sources: Sequence[Source]) -> Iterator[Line]:
    """The lines that come after the history, until Ctrl-C. Raises `CliError`."""
    while True:
        came = [line for one in sources for line in one.more()]
        yield from sorted(came, key=lambda line: line.at)
        if not came:
            time.sleep(LOOK_SECONDS)


class _Files:
    def __init__(self, log: Kept) -> None:
        self._log = log
        self._path = log.directory / f"{log.program}.log"
        self._file: IO[str] | None = None
        self._begun = ""
        self._last = EARLIEST

    def history(self) -> Iterator[Line]:
        for path in self._log.files():
            # One that was rotated away meanwhile is there again under its next name, or gone.
            with contextlib.suppress(FileNotFoundError):
                self.close()
                self._file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115  (it stays open)
                yield from self._rest()

    def more(self) -> Iterator[Line]:
        yield from self._rest()
        if self._is_another():
            yield from self._rest()
            self.close()
            with contextlib.suppress(FileNotFoundError):
                self._file = open(self._path, encoding="utf-8", errors="replace")  # noqa: SIM115
            yield from self._rest()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rest(self) -> Iterator[Line]:
        while self._file is not None and (text := self._file.readline()):
            self._begun += text
            if self._begun.endswith("\n"):
                line = parsed(self._log.program, self._begun, self._last)
                self._begun, self._last = "", line.at
                yield line

    def _is_another(self) -> bool:
        """Whether the newest file is another than the one that is read."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is None or os.fstat(self._file.fileno()).st_ino != there.st_ino


class _Journal:
    def __init__(self, log: Kept, since: dt.datetime | None) -> None:
        self._log = log
        self._since = since
        self._cursor: str | None = None
        self._follower: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def history(self) -> Iterator[Line]:
        since = [] if self._since is None else [f"--since=@{self._since.timestamp():.0f}"]
        with self._started([*since, "--no-pager"]) as process:
            assert process.stdout is not None
            yield from self._lines(process.stdout)

    def more(self) -> Iterator[Line]:
        if self._follower is None:
            after = (
                ["--lines=0"] if self._cursor is None else [f"--after-cursor={self._cursor}", "--lines=all"]
            )
            self._follower = self._started([*after, "--follow"])
            assert self._follower.stdout is not None
            os.set_blocking(self._follower.stdout.fileno(), False)
        assert self._follower.stdout is not None
        ended = self._follower.poll() is not None
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._follower.stdout.fileno(), 65536):
                self._rest += piece
        *whole, self._rest = self._rest.split(b"\n")
        yield from self._lines(whole)
        if ended:
            raise CliError("journalctl has ended")

    def close(self) -> None:
        if self._follower is not None:
            self._follower.kill()
            self._follower.wait()
            if self._follower.stdout is not None:
                self._follower.stdout.close()

    def _lines(self, texts: Sequence[bytes] | IO[bytes]) -> Iterator[Line]:
        for text in texts:
            found = of_journal(self._log.program, text.decode(errors="replace"))
            if found is not None:
                line, self._cursor = found
                yield line

    def _started(self, options: Sequence[str]) -> subprocess.Popen[bytes]:
        unit = f"--user-unit={self._log.unit}" if self._log.of_user else f"--unit={self._log.unit}"
        try:
            return subprocess.Popen(
                ["journalctl", "--output=json", "--all", "--quiet", unit, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise CliError(
                f"the log is in the journal, and journalctl cannot be run: {error.strerror}"
            ) from error
