"""What runs write, told to the host while they run: in pieces, at a pace, and no more than so much of each.

It is for people who watch. Nothing is kept for it, and nothing depends on it: the result has all of the output.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal

from ringfence.bounded import cleaned

from ringfence_satellite.agent.delivering.result_delivery import Pace
from ringfence_satellite.agent.running.runner import Listen
from ringfence_satellite.protocol import MAX_OUTPUT_CHARACTERS, MAX_OUTPUT_PIECE, RunOutput

COMPANY_SECONDS = 0.2
"""How long what is written waits for more of it, so that a line at a time is no frame at a time."""
PER_SECOND = 4.0
BURST = 8.0
"""A fifth of what a host takes from a satellite in a second, over all runs."""

Send = Callable[[str], Awaitable[bool]]
Stream = Literal["stdout", "stderr"]


class LiveOutput:
    """What one run has written and nobody has been told yet. Pure."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": decoder(errors="replace"), "stderr": decoder(errors="replace")}
        self._pieces: deque[tuple[Stream, str]] = deque()
        self._room = MAX_OUTPUT_CHARACTERS
        self._sequence = 0

    def hear(self, stream: Stream, data: bytes) -> bool:
        """The run has written something; whether there is something to tell."""
        text = cleaned(self._decoders[stream].decode(data))
        text = text[: self._room]
        if not text:
            return False
        self._room -= len(text)
        if self._pieces and self._pieces[-1][0] == stream:
            text = self._pieces.pop()[1] + text
        self._pieces.extend(
            (stream, text[start : start + MAX_OUTPUT_PIECE])
            for start in range(0, len(text), MAX_OUTPUT_PIECE)
        )
        return True

    def next(self) -> RunOutput | None:
        """The next piece to tell, which is told then."""
        if not self._pieces:
            return None
        stream, text = self._pieces.popleft()
        frame = RunOutput(run_id=self._run_id, stream=stream, sequence=self._sequence, text=text)
        self._sequence += 1
        return frame


class LiveOutputs:
    """The output of all runs that are under way, and its telling over whatever connection there is."""

    def __init__(self) -> None:
        self._of: dict[str, LiveOutput] = {}
        self._something = asyncio.Event()

    def listen(self, run_id: str) -> Listen:
        """What to call with each piece that a run writes, until it is `over`."""
        output = self._of[run_id] = LiveOutput(run_id)

        def hear(stream: str, data: bytes) -> None:
            if output.hear("stderr" if stream == "stderr" else "stdout", data):
                self._something.set()

        return hear

    def over(self, run_id: str) -> None:
        """The run has ended: its result tells the rest."""
        self._of.pop(run_id, None)

    async def tell(self, send: Send, *, pace: Pace | None = None) -> None:
        """Tell what is written, of each run a piece in turn, until the connection is gone or this is cancelled."""
        pace = pace or Pace(PER_SECOND, BURST)
        while True:
            await self._something.wait()
            await asyncio.sleep(COMPANY_SECONDS)
            self._something.clear()
            told = True
            while told:
                told = False
                for output in tuple(self._of.values()):
                    if (frame := output.next()) is not None:
                        told = True
                        await asyncio.sleep(pace.delay())
                        if not await send(frame.encode()):
                            return
