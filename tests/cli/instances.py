"""`ringfence up` and `ringfence demo` as processes, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import psutil

from tests.waiting import PATIENCE_SECONDS, wait_until
from tests.warm_process import heed_interrupts

RINGFENCE = [sys.executable, "-P", "-m", "ringfence"]


class Command:
    """A long-running command; its output is collected while it runs."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [*RINGFENCE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environ},
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._family: set[psutil.Process] = set()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return "".join(self._lines)

    def until_it_says(self, text: str) -> None:
        """Wait until it has printed `text`. Fails if it ends before."""
        wait_until(
            lambda: text in self.output or self.process.poll() is not None, f"no {text!r} in:\n{self.output}"
        )
        assert text in self.output, self.output

    def family(self) -> set[psutil.Process]:
        """Every process that it has started so far, itself left out."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._family |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self._family

    def signalled(self, number: int) -> int:
        """Its status after a signal; its family is noted first."""
        self.family()
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Its status."""
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return status

    def end(self) -> None:
        """Clean up after a test that failed in between."""
        everyone: list[psutil.Process | subprocess.Popen[str]] = [*self.family(), self.process]
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)


def all_gone(processes: Iterable[psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return not any(map(_runs, processes))


def _runs(one: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    return False


def names_in(directory: Path) -> set[str]:
    """What lies in a directory."""
    return {path.name for path in directory.iterdir()}
