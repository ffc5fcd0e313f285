"""The `ringfence` command from its first moment on: Ctrl-C ends it quietly, also while it is imported and at its end.

What Python does before, some 20 ms of its own start, is out of our reach: Ctrl-C then shows Python's traceback. So this
imports nothing that takes time before it has set the handler.
"""

from __future__ import annotations

import os
import signal


def _end_quietly(number: int, frame: object) -> None:
    """End at once: nothing has been begun yet, or all is done, so that there is nothing to undo."""
    del number, frame
    os._exit(130)  # `INTERRUPTED` of `ringfence.process.errors`, which there may be no time to import


def main() -> None:
    """Run this process's command line, and exit with its status."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell's `&` has it ignored
    if heeded:
        signal.signal(signal.SIGINT, _end_quietly)
    from ringfence.cli.app import main as run

    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:  # after its last look for one
        os._exit(130)
    finally:
        if heeded:
            signal.signal(signal.SIGINT, _end_quietly)
