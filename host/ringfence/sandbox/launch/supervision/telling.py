"""What a wrapper tells on its own descriptor: lines of JSON, of which the first is about its init. No I/O.

It tells how the script ended before it ends itself, which saves a way over the spawner.
"""

from __future__ import annotations

import contextlib
import json


class Telling:
    """Bytes as they come, and the whole lines in them."""

    def __init__(self) -> None:
        self._rest = b""
        self._first_is_taken = False

    def hear(self, data: bytes) -> None:
        """Take in what was read."""
        self._rest += data

    @property
    def is_amid_a_line(self) -> bool:
        """Whether the rest of a line is still to come."""
        return bool(self._rest) and not self._rest.endswith(b"\n")

    def first(self) -> bytes | None:
        """The first line, once, when it is whole; it tells of the init."""
        if self._first_is_taken or b"\n" not in self._rest:
            return None
        self._first_is_taken = True
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def exit_codes(self) -> tuple[int, ...]:
        """How the script ended, if any further line that is whole tells that; what is no such line is passed over."""
        if not self._first_is_taken:
            return ()
        *lines, self._rest = self._rest.split(b"\n")
        codes = []
        for line in lines:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                code = told.get("exit-code") if isinstance(told, dict) else None
                if isinstance(code, int):
                    codes.append(code)
        return tuple(codes)
