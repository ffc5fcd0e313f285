"""The host's side of the spawner: one small process per identity that starts children and reports how they end.

Nothing here belongs to an event loop: each child has its own reply socket, so any loop or thread may start one. See
`spawning` for why there is such a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ringfence.sandbox.identities import subordinates
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.processes.pidfds import pid_of
from ringfence.sandbox.processes.spawning import packets
from ringfence.sandbox.processes.spawning.cleaning import CLEANING_S
from ringfence.sandbox.processes.spawning.keeping import KEEPING_S
from ringfence.sandbox.workers import PREPARATIONS

START_TIMEOUT_S = 10.0

PACKAGES = "RINGFENCE_PACKAGES"
"""The variable that tells a script which a spawner is started through where our packages are: it knows none."""

PROGRAM = Path(__file__).with_name("spawner_main.py")


class SpawnFailed(RuntimeError):
    """A child could not be started; nothing of it is left."""


@dataclass(slots=True)
class Child:
    """A started child, told by the replies on `answers` (non-blocking): first its pid, at its end its status."""

    answers: socket.socket


@dataclass(frozen=True, slots=True)
class Started:
    """The child runs. `pidfd` is ours to close; `pid` is -1 if it has ended and was reaped."""

    pid: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The child ended with this exit code: its status, or minus the signal that killed it."""

    exit_code: int


def receive(answers: socket.socket) -> Started | Ended:
    """The next reply about a child; the socket must be readable.

    Raises:
        SpawnFailed: if the child could not be started, or the spawner is gone (and with it, its children).
    """
    data, descriptors = packets.receive(answers, 64, 1)
    kind, _, number = data.decode().partition(" ")
    if kind == "P" and not descriptors:
        raise SpawnFailed("no descriptor is free for the wrapper: raise the limit of open files")
    if kind == "P":
        return Started(pid_of(descriptors[0]), descriptors[0])
    if kind == "X":
        return Ended(os.waitstatus_to_exitcode(int(number)))
    if kind == "E":
        raise SpawnFailed(f"the wrapper cannot be started: {os.strerror(int(number))}")
    raise SpawnFailed("the spawner ended and its children with it, or could not take the request")


class Spawner:
    """One spawner process of one identity. Use `spawner_for`, which starts it on demand and keeps it."""

    def __init__(
        self,
        identity: Identity,
        through: Path | None = None,
        *,
        plain: bool = False,
        leaving: bool = False,
        showing: bool = False,
        lean: bool = False,
        holds: int | None = None,
    ) -> None:
        """Start the process and wait until it has dropped to `identity`.

        Args:
            identity: what its children are seen as; if they are `leaving`, what it is itself.
            through: a script that prepares the process while it still has the supervisor's rights, and then
                becomes the spawner; it gets the spawner's path and arguments.
            plain: its children are plain processes, and its own pid is that of `pid`; else all of them end with it,
                by a namespace of their own if there can be one.
            leaving: each child leaves for an identity of its own.
            showing: its children, which are wrappers, find the host's `/proc` beside one of their own.
            lean: its children need nothing of the file systems in which the host's kernel shows the machine.
            holds: a descriptor that it keeps open until all of its children have ended, for the sake of its lock.

        Raises:
            SpawnFailed: if it cannot be started, or does not get that identity.
        """
        self.identity = identity
        namespace = _joined() if leaving else None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S"),
                    *([str(through)] if through is not None else []),
                    str(PROGRAM),
                    *map(str, identity),
                    *(["plain"] if plain else []),
                    *(["leaving"] if leaving else []),
                    *(["showing"] if showing else []),
                    *(["lean"] if lean else []),
                    *([str(namespace)] if namespace is not None else []),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL if holds is None else holds,
                pass_fds=() if namespace is None else (namespace,),
                env={} if through is None else {PACKAGES: os.pathsep.join(filter(os.path.isabs, sys.path))},
                cwd="/",
            )
        ours.settimeout(START_TIMEOUT_S)
        try:
            hello = ours.recv(1024).decode()
        except OSError as error:
            hello = f"E {error}"
        groups = [identity.gid] if hello.endswith(f"[{identity.gid}]") else []
        if hello != f"R {identity.uid} {identity.gid} {groups}" and not self._may_keep_groups(hello):
            ours.close()
            self._process.kill()
            self._process.wait()
            raise SpawnFailed(
                f"no child with the identity {identity.uid}:{identity.gid}: {hello or 'it ended'}"
            )
        ours.settimeout(START_TIMEOUT_S)
        self._requests = ours

    def _may_keep_groups(self, hello: str) -> bool:
        """A supervisor that is not root cannot shed its supplementary groups, and hands down what it has."""
        return os.geteuid() != 0 and hello.startswith(f"R {self.identity.uid} {self.identity.gid} ")

    def spawn(
        self,
        executable: int,
        argv: Sequence[str],
        env: Mapping[str, str],
        descriptors: Mapping[int, int],
        *,
        lease: Lease | None = None,
        limits: Mapping[str, int] = MappingProxyType({}),
        latch: int | None = None,
    ) -> Child:
        """Start `executable` (an open descriptor of it) with `descriptors`: number in the child → ours.

        All descriptors stay ours to close. The outcome comes on the child's `answers`. If the spawner's children are
        leaving, this one leaves for the identity of `lease`, which is held until it has ended. `limits` are by their
        names in Python's `resource`, and hard ones. A program that first of all reads the descriptor of the number
        `latch` to its end is started in a quicker way, which takes no `limits`; what it gets there is not ours.

        Raises:
            SpawnFailed: if the spawner is gone, or takes no requests.
        """
        request: dict[str, object] = {"argv": list(argv), "env": dict(env), "fds": list(descriptors)}
        if limits:
            request["limits"] = {name: [value, value] for name, value in limits.items()}
        held = []
        if lease is not None:
            request["identity"] = list(lease.identity)
            held.append(lease.lock)
        if latch is not None:
            request["latch"] = latch
        return self._ask(request, [executable, *held, *descriptors.values()])

    def call(
        self,
        name: str,
        arguments: Mapping[str, object],
        descriptors: Sequence[int],
        *,
        lease: Lease | None = None,
        limits: Mapping[str, int] = MappingProxyType({}),
    ) -> Child:
        """Have a child do what a spawner that was started `through` a script knows by that name.

        It gets the arguments, and the descriptors with the numbers from 3 on. The rest is as for `spawn`.

        Raises:
            SpawnFailed: if the spawner is gone, or takes no requests.
        """
        request: dict[str, object] = {"call": name, **arguments}
        if limits:
            request["limits"] = {each: [value, value] for each, value in limits.items()}
        if lease is None:
            return self._ask(request, descriptors)
        request["identity"] = list(lease.identity)
        return self._ask(request, [*descriptors[:1], lease.lock, *descriptors[1:]])

    def _ask(self, request: dict[str, object], descriptors: Sequence[int]) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(
                    self._requests, [json.dumps(request).encode()], [theirs.fileno(), *descriptors]
                )
            except OSError as error:
                ours.close()
                raise SpawnFailed(f"the spawner is gone, or stuck: {error}") from error
        ours.setblocking(False)
        return Child(ours)

    def clean(self, lease: Lease) -> bool:
        """End the processes of a leased identity, and remove what else it has left; whether nothing is left.

        Takes its time: not for an event loop.

        Raises:
            SpawnFailed: if it cannot be tried.
        """
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            child = self._ask({"clean": True, "identity": list(lease.identity)}, [null, lease.lock])
        finally:
            os.close(null)
        status = _status(child, 2 * CLEANING_S, "cleaning up")
        if status not in (0, 1):
            raise SpawnFailed(f"cleaning up ended with {status}")
        return status == 0

    def keep(self, order: Mapping[str, object], directory: int, archive: int, lease: Lease | None) -> bool:
        """Have a run's state put into its directory, or taken out, as the run's own identity (`spawning.keeping`).

        False if that cannot be done: the archive then holds the reason. Takes its time: not for an event loop.

        Raises:
            SpawnFailed: if it cannot be tried.
        """
        held = [] if lease is None else [lease.lock]
        identity = None if lease is None else list(lease.identity)
        child = self._ask({**order, "identity": identity}, [directory, *held, archive])
        status = _status(child, 2 * KEEPING_S, "keeping the state")
        if status not in (0, 1):
            raise SpawnFailed(f"keeping the state ended with {status}")
        return status == 0

    @property
    def pid(self) -> int:
        """The pid of the process that was started; of the spawner itself, if its children are plain."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether a request would be taken at once."""
        poll = select.poll()
        poll.register(self._requests, select.POLLOUT)
        return self.alive and bool(poll.poll(0))

    def leave(self) -> None:
        """Let go of the process: it ends by itself when it has ended all of its children, however long that takes."""
        self._requests.close()

    def close(self) -> None:
        """End the process, and with it all of its children."""
        self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._process.kill()
        self._process.wait()


def _status(child: Child, patience_s: float, what: str) -> int:
    """How a child ends. Raises SpawnFailed if that takes too long."""
    with child.answers as answers:
        answers.settimeout(patience_s)
        try:
            while isinstance(answer := receive(answers), Started):
                os.close(answer.pidfd)
        except TimeoutError as error:
            raise SpawnFailed(f"{what} takes too long") from error
    return answer.exit_code


def _joined() -> int | None:
    """The user namespace whose uids children can leave for; None for root, who needs none.

    Raises:
        SpawnFailed: if there is none.
    """
    if os.geteuid() == 0:
        return None
    try:
        return subordinates.namespace()[1]
    except subordinates.NoSubordinatesError as error:
        raise SpawnFailed(str(error)) from error


_spawners: dict[tuple[Identity, Path | None, bool, bool, bool, bool], Spawner] = {}
_lock = threading.Lock()


def spawner_for(
    identity: Identity,
    through: Path | None = None,
    *,
    plain: bool = False,
    leaving: bool = False,
    showing: bool = False,
    lean: bool = False,
) -> Spawner:
    """The spawner of `identity` in this process, started (through that script) if there is none or it died.

    Raises:
        SpawnFailed: as the constructor.
    """
    key = identity, through, plain, leaving, showing, lean
    spawner = _spawners.get(key)
    if spawner is not None and spawner.alive:
        # Without waiting for another that is being started.
        return spawner
    with _lock:
        spawner = _spawners.get(key)
        if spawner is None or not spawner.alive:
            spawner = _spawners[key] = Spawner(
                identity, through, plain=plain, leaving=leaving, showing=showing, lean=lean
            )
        return spawner


async def ready_spawner_for(
    identity: Identity, through: Path | None = None, *, plain: bool = False, leaving: bool = False
) -> Spawner:
    """As `spawner_for`, but one that has to be started first holds up no event loop."""
    if not is_ready(identity, through, plain=plain, leaving=leaving):
        starting = PREPARATIONS.submit(spawner_for, identity, through, plain=plain, leaving=leaving)
        await asyncio.wrap_future(starting)
    return spawner_for(identity, through, plain=plain, leaving=leaving)


def is_ready(
    identity: Identity,
    through: Path | None = None,
    *,
    plain: bool = False,
    leaving: bool = False,
    showing: bool = False,
    lean: bool = False,
) -> bool:
    """Whether there is such a spawner, and it would take a request at once: if not, `spawner_for` is for a thread."""
    spawner = _spawners.get((identity, through, plain, leaving, showing, lean))
    return spawner is not None and spawner.is_ready


def _forget() -> None:
    """After a fork: the parent's spawners are the parent's, and their children die with *it*."""
    global _lock
    _spawners.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
