"""The host's side of looking at runs whose uids are subordinate ones: one process that looks (`look_main`), for all.

It is there before the first run of such a uid starts. A run of which it cannot tell is ended, as with any other look.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading

from ringfence.sandbox.identities import subordinates
from ringfence.sandbox.limits.counting.look_main import GONE, SEEN
from ringfence.sandbox.limits.counting.namespace import NotSeen, TreeGone
from ringfence.sandbox.limits.counting.tree import Use

START_TIMEOUT_S = 30.0
LOOK_TIMEOUT_S = 60.0
"""A look has a bound in processor time; a busy machine may take long to give it that."""

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from ringfence.sandbox.limits.counting.look_main import main
main()
"""


class NoLookerError(RuntimeError):
    """The process that looks cannot be started."""


class Looker:
    """The process that looks. Use `looker`, which keeps one."""

    def __init__(self) -> None:
        """Start it, and wait until it has joined the namespace. Raises `NoLookerError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _, descriptor = subordinates.namespace()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _PROGRAM, str(descriptor), json.dumps(sys.path)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(descriptor,),
                    env={},
                    cwd="/",
                )
        except (OSError, subordinates.NoSubordinatesError) as error:
            ours.close()
            raise NoLookerError(f"runs cannot be measured: {error}") from error
        ours.settimeout(START_TIMEOUT_S)
        answer = b""
        with contextlib.suppress(OSError):
            answer = ours.recv(16)
        if answer != b"R":
            ours.close()
            self._process.kill()
            words = self._process.communicate()[1].decode(errors="replace").strip()
            raise NoLookerError(f"runs cannot be measured: {words.rpartition(chr(10))[2] or 'it ended'}")
        self._requests = ours

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def begin(self, init: int, *, own_network: bool, proc: str) -> socket.socket:
        """A socket for the looks at one run. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(LOOK_TIMEOUT_S)
        order = json.dumps({"init": init, "ownNetwork": own_network, "proc": proc}).encode()
        try:
            with theirs:
                socket.send_fds(self._requests, [order], [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        return ours


_looker: Looker | None = None
_lock = threading.Lock()


def is_ready() -> bool:
    """Whether there is one."""
    return _looker is not None and _looker.alive


def looker() -> Looker:
    """The one of this process, started if there is none or it died. Raises `NoLookerError`."""
    global _looker
    with _lock:
        if _looker is None or not _looker.alive:
            _looker = Looker()
        return _looker


class DistantTree:
    """As `tree.Tree`, of a run whose uid is a subordinate one."""

    def __init__(self, init: int, *, own_network: bool, proc: str = "/proc") -> None:
        """Begin to look. Raises `NotSeen`."""
        try:
            self._end = looker().begin(init, own_network=own_network, proc=proc)
        except (OSError, NoLookerError) as error:
            raise NotSeen(f"the process that measures runs cannot be asked: {error}") from error

    def close(self) -> None:
        """Look no more."""
        self._end.close()

    def look(self, memory_limit: int | None) -> Use:
        """As `Tree.look`. Raises `NotSeen`."""
        try:
            self._end.send(json.dumps(memory_limit).encode())
            answer = self._end.recv(4096)
        except OSError as error:
            raise NotSeen(f"the process that measures runs does not answer: {error}") from error
        if not answer:
            raise NotSeen("the process that measures runs has ended")
        kind, *told = json.loads(answer)
        if kind == SEEN:
            return Use(*told)
        raise (TreeGone if kind == GONE else NotSeen)(*told)


def _forget() -> None:
    """After a fork: it is the parent's."""
    global _looker, _lock
    if _looker is not None:
        _looker._requests.close()
    _looker = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
