"""What a script on this machine writes, shown as it comes.

A thread of its own writes it: whoever reads us may be slow, and the run, its limits and its time-out go on meanwhile.
What waits to be written is bounded by the policy, as all output of a run is.
"""

from __future__ import annotations

import codecs
import os
import queue
import threading
from collections.abc import Callable
from types import TracebackType

from ringfence.cli import report
from ringfence.process.errors import INTERRUPTED

_STREAMS = ("stdout", "stderr")


class Streaming:
    """Shows pieces of output while the block runs; `shown` counts characters, and is the caller's after it.

    `failure` is why nothing more could be written; `on_failure` is told of it, on the thread.
    """

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self.shown = dict.fromkeys(_STREAMS, 0)
        self.failure: OSError | None = None
        self._on_failure = on_failure
        self._pieces: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="ringfence-output", daemon=True)

    def listen(self, stream: str, data: bytes) -> None:
        """Take a piece, which is written soon. Never waits."""
        self._pieces.put((stream, data))

    def __enter__(self) -> Streaming:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._pieces.put(None)
        try:
            self._thread.join()
        except KeyboardInterrupt:
            # Nobody reads what the thread writes. The run has ended, and a flush at the end would wait for that reader.
            os._exit(INTERRUPTED)

    def _write(self) -> None:
        # A character may come in two pieces. What is cut off for good at the end is in the result, as it is told there.
        decoders = {name: codecs.getincrementaldecoder("utf-8")(errors="replace") for name in _STREAMS}
        while (piece := self._pieces.get()) is not None:
            if self.failure is not None:
                continue
            stream, data = piece
            text = decoders[stream].decode(data)
            try:
                report.write(stream, text)
            except OSError as error:
                self.failure = error
                self._on_failure()
            else:
                self.shown[stream] += len(text)
