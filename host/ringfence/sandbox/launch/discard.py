"""Throw away a sandbox that was not used, or that nobody waits for any more.

It is done on a thread, and nobody has to wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import time
from concurrent.futures import Future

from ringfence.sandbox.launch.making.entry import Entered
from ringfence.sandbox.launch.making.prepare import Prepared
from ringfence.sandbox.launch.supervision.kill import kill_namespace
from ringfence.sandbox.processes.pidfds import kill
from ringfence.sandbox.processes.spawner import SpawnFailed, Started, receive
from ringfence.sandbox.workers import DISCARDS

TOLD_TIMEOUT_S = 60.0
"""How long what starts wrappers may take to tell of one that nobody wants any more."""

END_TIMEOUT_S = 5.0
"""How long an unused sandbox may take to end by itself."""

_log = logging.getLogger(__name__)


def discard(prepared: Prepared) -> Future[None]:
    """End a sandbox and close all that is ours of it. The future is done when nothing is left of it."""
    try:
        return DISCARDS.submit(_discard, prepared)
    except RuntimeError:
        # The interpreter ends, and starts no thread any more: it is done on this one.
        done: Future[None] = Future()
        _discard(prepared)
        done.set_result(None)
        return done


def _discard(prepared: Prepared) -> None:
    # What runs in it is only the trusted bootstrap, which ends when its channel closes; unless it was started already.
    prepared.channel.close()
    patience = END_TIMEOUT_S if prepared.payload >= 0 else 0.0
    entered = prepared.entering.result() if prepared.entering is not None else prepared.entered or Entered()
    try:
        monitor = entered.monitor or _told(prepared)
        if monitor is not None:
            try:
                _end(monitor, entered.init, patience)
            finally:
                os.close(monitor.pidfd)
    finally:
        if entered.init is not None:
            os.close(entered.init)
        if entered.relay is not None:
            entered.relay.close()
        if entered.group is not None:
            entered.group.close()
        prepared.close()


def _told(prepared: Prepared) -> Started | None:
    """The wrapper, when what starts it tells of it; None if there is none."""
    deadline = time.monotonic() + TOLD_TIMEOUT_S
    with contextlib.suppress(SpawnFailed, BlockingIOError):
        if _readable(prepared.child.answers.fileno(), deadline - time.monotonic()):
            answer = receive(prepared.child.answers)
            return answer if isinstance(answer, Started) else None
        _log.warning("the process that starts sandboxes does not answer; an unused sandbox may be left")
    return None


def _end(monitor: Started, init: int | None, patience: float) -> None:
    """See a wrapper and its namespace end, by force if they do not end by themselves."""
    if _readable(monitor.pidfd, patience):
        return
    if init is not None:
        kill_namespace(init)
    # Its init is told by the kernel to die with it.
    kill(monitor.pidfd)
    if not _readable(monitor.pidfd, END_TIMEOUT_S):
        _log.warning("an unused sandbox cannot be ended: its wrapper is process %d", monitor.pid)


def _readable(descriptor: int, wait_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(wait_s, 0) * 1000))
