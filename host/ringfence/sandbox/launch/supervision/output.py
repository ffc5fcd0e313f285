"""A script's output as it arrives: counted, capped, and decoded without ever failing."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable

CHUNK = 64 * 1024
"""The most that is read at once; with the cap, the bound of what one run's output takes in the host's
memory."""


class Budget:
    """How many bytes a run may still write, over all of its streams."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.exceeded = False

    def take(self, data: bytes) -> bytes:
        """The part of `data` that still fits; once something does not, `exceeded` is set for good."""
        kept = data[: self._left]
        self._left -= len(kept)
        self.exceeded = self.exceeded or len(kept) < len(data)
        return kept


class Capture:
    """What was read from one descriptor, within a budget that streams may share.

    `listen` is told each piece of it as it comes.
    """

    def __init__(
        self, descriptor: int, budget: Budget, listen: Callable[[bytes], None] | None = None
    ) -> None:
        self.descriptor = descriptor
        self._listen = listen
        self._budget = budget
        self._kept = bytearray()
        self.ended = False

    def read(self) -> None:
        """Take what is there, one chunk at most; the descriptor must not block.

        Sets `ended` when no writer is left.
        """
        try:
            data = os.read(self.descriptor, CHUNK)
        except BlockingIOError:
            return
        if data:
            self._take(data)
        else:
            self.ended = True

    def drain(self) -> None:
        """Take all that is left after every writer is dead: never waits, and reads no further than the cap."""
        while not self.ended and not self._budget.exceeded:
            try:
                data = os.read(self.descriptor, CHUNK)
            except BlockingIOError:
                return
            self._take(data)
            self.ended = not data

    def _take(self, data: bytes) -> None:
        kept = self._budget.take(data)
        self._kept += kept
        if self._listen is not None and kept:
            self._listen(kept)

    @property
    def data(self) -> bytes:
        """The bytes as they came."""
        return bytes(self._kept)

    def text(self) -> str:
        """The bytes as text.

        Invalid UTF-8 becomes U+FFFD; a code point that the cap cut through is left out.
        """
        if not self._kept:
            return ""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return decoder.decode(self._kept, final=not self._budget.exceeded)
