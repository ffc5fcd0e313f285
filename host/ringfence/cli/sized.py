"""How much of long work is done, for whoever waits at a terminal; pipes and files are spared it."""

from __future__ import annotations

import sys
import time

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_EVERY_SECONDS = 0.2


def size_of(count: float) -> str:
    """A number of bytes as people read it."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


class Progress:
    """One line at the terminal that says how far the work is; `end` takes it away."""

    def __init__(self, what: str, of: int | None = None) -> None:
        self._what = what
        self._of = of
        self._shown_at = 0.0
        self._at_terminal = sys.stderr.isatty()

    def __call__(self, done: int) -> None:
        """Show how many bytes are done."""
        now = time.monotonic()
        if not self._at_terminal or now - self._shown_at < _EVERY_SECONDS:
            return
        self._shown_at = now
        of = "" if not self._of else f" of {size_of(self._of)} ({100 * done // self._of} %)"
        sys.stderr.write(f"\r\x1b[K{self._what} … {size_of(done)}{of}")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._at_terminal and self._shown_at:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
