"""Do what a plan says: prepare a sandbox that waits, start a script in it, and see it through to its end.

*Prepare* spawns the wrapper as the planned identity; it makes namespaces, mounts and filter, and runs a small trusted
bootstrap that waits on its channel. *Start* hands over the payload (script, context, environment) and says go. A cold
run does both at once; a warm one has time between them.

Descriptors inside: 0 is `/dev/null`, 1 and 2 the output, 3 the payload (a memory file), 4 the channel (a socket: "go"
in, "started" and the value out), 5 the bootstrap. The bootstrap closes 3 to 5 for the script's children.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import os
import platform
import socket
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from ringfence.sandbox import egress, etc, landlock_main, looking
from ringfence.sandbox.bottom import BOTTOM
from ringfence.sandbox.entry import Entered, enter
from ringfence.sandbox.faults import is_passing
from ringfence.sandbox.furnish import MASKED_DIRECTORIES, MASKED_FILES, furnish
from ringfence.sandbox.leases import Lease, NoUidFree, register_of
from ringfence.sandbox.plain import PlainTree
from ringfence.sandbox.plan import Plan
from ringfence.sandbox.policy import FilesystemMode
from ringfence.sandbox.probes import Identity
from ringfence.sandbox.seccomp import Architecture, syscall_filter
from ringfence.sandbox.spawner import Child, SpawnFailed, is_ready, spawner_for
from ringfence.sandbox.tree import Tree
from ringfence.sandbox.wrappers.room import Room, Wrapper
from ringfence.sandbox.wrappers.stage import WRAPPER, stage

PAYLOAD, CHANNEL, BOOTSTRAP = 3, 4, 5
"""The numbers of the trusted descriptors inside."""

LIBRARIES = (8, 9)
"""The numbers of the libraries that a bundled wrapper brings. It would find them from its own path, which may be
out of the child's reach, as it is itself; so both come by descriptor. (6 and 7 are the egress gate's.)"""

RESOLV_CONF = "/etc/resolv.conf"

_FIRST_PRIVATE = 10
"""From here on, descriptors that the wrapper consumes and closes before the command runs."""

_MOST_WORDS = 16 * 1024
"""How much of what a wrapper said is read."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class LaunchFailed(RuntimeError):
    """The sandbox could not be made, so no line of the script has run.

    Unless it had `begun`, too late to be waited for: then some may have.
    """

    def __init__(self, reason: str, *, begun: bool = False) -> None:
        super().__init__(reason)
        self.begun = begun


@dataclass(frozen=True, slots=True)
class Command:
    """What runs inside: the program's arguments, and the bootstrap that it reads from descriptor 5, if any.

    `environment`, as pairs, is there from the beginning; it holds nothing of a particular run.
    """

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    bootstrap: bytes | None = None


@dataclass(slots=True)
class Prepared:
    """A sandbox that waits for its script; all descriptors are ours.

    Used once, by `supervise.run`, or discarded. One that is to have a cgroup of its own is `entering` it. `lease` is
    the uid that it has to itself, if the plan wants that.
    """

    plan: Plan
    child: Child
    stdout: int
    stderr: int
    info: int
    channel: socket.socket
    payload: int
    plain: PlainTree | None = None
    entering: Future[Entered] | None = None
    log: int = -1
    lease: Lease | None = None

    @property
    def owner(self) -> Identity | Lease:
        """Whose the run's processes are outside: a uid of its own, or one that is shared."""
        return self.lease or self.plan.identity

    @property
    def identity(self) -> Identity:
        """What the run's processes are outside; inside, they see the plan's."""
        return self.lease.identity if self.lease is not None else self.plan.identity

    def tree(self, init: int, *, own_network: bool) -> Tree | looking.DistantTree:
        """What tells how much the processes under `init` use. Raises `NotSeen`."""
        # The kernel shows a process in full to its own user and to root.
        distant = self.lease is not None and os.geteuid() != 0
        return (looking.DistantTree if distant else Tree)(init, own_network=own_network)

    def start(self, payload: bytes) -> None:
        """Hand the payload over and let the bootstrap go. What was handed over cannot change any more."""
        _write_all(self.payload, payload)
        fcntl.fcntl(self.payload, fcntl.F_ADD_SEALS, _SEALS)
        os.close(self.payload)
        self.payload = -1
        # If it has died meanwhile, its end tells so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.send(b"go\n")

    def explanation(self) -> str:
        """Why the wrapper failed, if it has said so on a descriptor of its own."""
        if self.log < 0 or self.plan.wrapper is None:
            return ""
        return self.plan.wrapper.explained(os.pread(self.log, _MOST_WORDS, 0).decode(errors="replace"))

    def close(self) -> None:
        """Close all that is ours. The sandbox does not end by this: kill it first.

        A plain run does, and its scratch is removed, which takes its time: not for an event loop.
        """
        for descriptor in (self.stdout, self.stderr, self.info, self.payload, self.log):
            if descriptor >= 0:
                os.close(descriptor)
        self.stdout = self.stderr = self.info = self.payload = self.log = -1
        self.channel.close()
        self.child.answers.close()
        if self.plain is not None:
            self.plain.close()
            self.plain = None
        if self.lease is not None:
            self.lease.close()


def takes_long(plan: Plan) -> bool:
    """Whether `prepare` has to wait for another process first: then it is for a thread and for no event loop."""
    if plan.wrapper is None:
        return True
    if plan.uids is None:
        return not is_ready(plan.identity)
    return not is_ready(plan.uids.spawner, leaving=True) or (os.geteuid() != 0 and not looking.is_ready())


def prepare(plan: Plan, command: Command) -> Prepared:
    """Spawn a sandbox that waits for its start. Returns while the sandbox is still being made.

    Raises:
        LaunchFailed: if it cannot even be spawned. Later failures show when it is run.
    """
    if not hasattr(os, "memfd_create"):
        raise LaunchFailed("scripts are run on Linux only")
    with _Descriptors() as ours:
        stdout, stdout_inside = ours.output()
        stderr, stderr_inside = ours.output()
        info, info_inside = ours.pipe()
        channel, channel_inside = ours.sockets()
        payload = ours.memory("payload", b"")
        inside = {
            0: ours.open(os.devnull, os.O_RDONLY),
            1: stdout_inside,
            2: stderr_inside,
            PAYLOAD: payload,
            CHANNEL: channel_inside.fileno(),
        }
        if command.bootstrap is not None:
            inside[BOOTSTRAP] = ours.memory("bootstrap", command.bootstrap)
        try:
            log = -1
            lease = ours.lease(plan)
            if plan.wrapper is None:
                plain = PlainTree(lease or plan.identity)
                try:
                    child = _spawn_plain(plan, plain, command, ours, inside)
                except BaseException:
                    plain.close()
                    raise
            else:
                plain = None
                child, log = _spawn_wrapped(plan.wrapper, plan, command, ours, inside, info_inside, lease)
        except (OSError, SpawnFailed, NoUidFree, looking.NoLookerError) as error:
            raise LaunchFailed(str(error)) from error
        ours.keep(stdout, stderr, info, payload)
        ours.keep_socket(channel)
        ours.keep_lease()
    for descriptor in (stdout, stderr, info):
        os.set_blocking(descriptor, False)
    channel.setblocking(False)
    entering = None
    if plan.cgroup is not None:
        entering = enter(child.answers, info, plan.cgroup, plan.resources)
    return Prepared(plan, child, stdout, stderr, info, channel, payload, plain, entering, log, lease)


def _spawn_plain(
    plan: Plan, plain: PlainTree, command: Command, ours: _Descriptors, inside: dict[int, int]
) -> Child:
    arguments = command.arguments
    if plan.confinement is not None:
        orders = plan.confinement.to_json(Architecture.of(platform.machine()), plain.home)
        inside[landlock_main.PROGRAM] = ours.memory("confine", _confining_program())
        inside[landlock_main.ORDERS] = ours.memory("orders", orders)
        program = f"/proc/self/fd/{landlock_main.PROGRAM}"
        arguments = (plan.confinement.python, "-ISB", program, *arguments)
    return plain.spawn(_executable(arguments[0]), arguments, dict(command.environment), inside)


@functools.cache
def _confining_program() -> bytes:
    return Path(landlock_main.__file__).read_bytes()


def _spawn_wrapped(
    wrapper: Wrapper,
    plan: Plan,
    command: Command,
    ours: _Descriptors,
    inside: dict[int, int],
    info: int,
    lease: Lease | None,
) -> tuple[Child, int]:
    """The child, and the descriptor of what the wrapper says beside the script's own error output; -1 for none."""
    environment = dict(command.environment)
    for number, library in zip(LIBRARIES, wrapper.libraries, strict=False):
        inside[number] = ours.open(library, os.O_RDONLY)
        # Not for the script: the wrapper unsets it, and the bootstrap closes the descriptor.
        environment["LD_PRELOAD"] = f"{environment.get('LD_PRELOAD', '')} /proc/self/fd/{number}".strip()
    placed = _Placed(inside, ours, info, on_stage=plan.egress is not None)
    start = wrapper.start(_room(plan), command.arguments, placed)
    executable = _executable(wrapper.program)
    preparations = []
    if plan.egress is not None:
        rules = _rules(plan.egress)
        inside[egress.RULES] = ours.memory("rules", rules.data)
        preparations.append(egress.gate(str(plan.nft), rules))
    if start.preparation is not None:
        # Afterwards, not every file of the host is where it was.
        preparations.append(start.preparation)
    argv = ["ringfence", *start.arguments]
    if preparations:
        inside[WRAPPER] = executable
        executable, argv = _executable(_found("unshare")), stage(preparations, WRAPPER, start.arguments)
    if lease is not None and os.geteuid() != 0:
        # It takes a while to start, in which a run would not be looked at.
        looking.looker()
    spawner = spawner_for(plan.identity) if lease is None else spawner_for(lease.spawner, leaving=True)
    child = spawner.spawn(executable, argv, environment, inside, lease=lease)
    ours.keep(placed.log)
    return child, placed.log


class _Placed:
    """What the wrapper needs: each is given the next number that is free in its process."""

    def __init__(self, inside: dict[int, int], ours: _Descriptors, info: int, *, on_stage: bool) -> None:
        self._inside = inside
        self._ours = ours
        self._info = info
        self._on_stage = on_stage
        self._kept = tuple(number for number in inside if number > 2)
        self.log = -1

    def data(self, content: bytes) -> int:
        return self._put(self._ours.constant(content))

    def info(self) -> int:
        return self._put(self._info)

    def errors(self) -> int:
        number = self._put(self._inside[2])
        self.log = self._inside[2] = self._ours.memory("log", b"")
        return number

    def kept(self) -> tuple[int, ...]:
        return self._kept

    def program(self) -> int | None:
        return WRAPPER if self._on_stage else None

    def _put(self, descriptor: int) -> int:
        number = max(max(self._inside) + 1, _FIRST_PRIVATE)
        self._inside[number] = descriptor
        return number


def _room(plan: Plan) -> Room:
    return furnish(
        plan,
        files=_made_files(plan),
        masked=masked(plan.identity.uid),
        bottom=BOTTOM.path() if plan.layered else None,
        program=_filter(plan) if plan.filtered else None,
    )


def _made_files(plan: Plan) -> Mapping[str, bytes]:
    """The files that the sandbox gets, by their path inside.

    Where the host's own are kept (`off`), all but one: with a link of its own, a run cannot ask the host's resolvers.
    """
    nameservers = plan.egress.nameservers if plan.egress is not None else ()
    files = {path: text.encode() for path, text in etc.files(*plan.identity, nameservers).items()}
    if plan.filesystem is not FilesystemMode.OFF:
        return {**files, **{path: copy for path in etc.COPIED_FILES if (copy := _copy(path)) is not None}}
    # Often a link, and what it leads to is what can be covered.
    resolv_conf = os.path.realpath(RESOLV_CONF)
    covered = plan.egress is not None and Path(resolv_conf).is_file()
    return {resolv_conf: files[RESOLV_CONF]} if covered else {}


@functools.lru_cache(maxsize=8)
def _rules(planned: egress.EgressPlan) -> egress.Rules:
    """The text of a filter, which takes a while to make if it is long."""
    return egress.Rules.of(planned.ruleset)


@functools.cache
def _found(name: str) -> str:
    try:
        return egress.find(name)
    except egress.LinkFailed as error:
        raise LaunchFailed(str(error)) from error


def _filter(plan: Plan) -> bytes:
    return syscall_filter(
        Architecture.of(platform.machine()),
        memory_is_counted=plan.cgroup is not None,
        files_are_shared=plan.shares_files,
    )


def _copy(path: str) -> bytes | None:
    """What a file of the host holds now; None if it is not there."""
    try:
        found = os.stat(path)
        return (
            _content(path, found.st_ino, found.st_mtime_ns, found.st_size)
            if stat.S_ISREG(found.st_mode)
            else None
        )
    except OSError:
        return None


@functools.lru_cache(maxsize=8)
def _content(path: str, *_version: int) -> bytes:
    """What a file holds in this version of it."""
    return Path(path).read_bytes()


@functools.cache
def masked(uid: int) -> tuple[str, ...]:
    """What of `/proc` is to be masked for scripts of this uid: what is there, and not closed to it anyway."""
    paths = (*MASKED_FILES, *MASKED_DIRECTORIES)
    return tuple(path for path in paths if _is_open(path, uid))


def _is_open(path: str, uid: int) -> bool:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode) and not os.listdir(path):
            return False
    except OSError as error:
        if is_passing(error):
            raise LaunchFailed(f"{path} cannot be looked at: {error.strerror}") from error
        return False
    return uid == found.st_uid or bool(found.st_mode & (stat.S_IROTH | stat.S_IWOTH))


@functools.cache
def _executable(path: str) -> int:
    """An open descriptor of a program, kept for the life of the process.

    Executed by it, its path need not be in reach.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LaunchFailed(f"{path} cannot be opened: {error.strerror}") from error


@functools.lru_cache(maxsize=128)
def _constant(data: bytes) -> io.FileIO:
    """A sealed memory file, which is closed when it is needed no more."""
    with _needed("a memory file cannot be made"):
        file = io.FileIO(os.memfd_create("ringfence-data", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+")
        _write_all(file.fileno(), data)
        fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, _SEALS)
    return file


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _needed(failure: str) -> Iterator[None]:
    """What a launch cannot do without. Raises LaunchFailed in place of OSError."""
    try:
        yield
    except OSError as error:
        raise LaunchFailed(f"{failure}: {error.strerror}") from error


class _Descriptors:
    """Descriptors made for one launch: all closed at the end but those that are kept."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._sockets: list[socket.socket] = []
        self._lease: Lease | None = None

    def __enter__(self) -> _Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        for end in self._sockets:
            end.close()
        if self._lease is not None:
            self._lease.close()

    def lease(self, plan: Plan) -> Lease | None:
        """A uid for this launch alone, if its plan wants one."""
        if plan.uids is not None:
            reaching = plan.filesystem is FilesystemMode.OFF
            self._lease = register_of(plan.uids).lease(reaching=reaching)
        return self._lease

    def keep_lease(self) -> None:
        self._lease = None

    def open(self, path: str, flags: int) -> int:
        with _needed(f"{path} cannot be opened"):
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        self._open.append(descriptor)
        return descriptor

    def pipe(self) -> tuple[int, int]:
        with _needed("a pipe cannot be made"):
            ends = os.pipe2(os.O_CLOEXEC)
        self._open += ends
        return ends

    def output(self) -> tuple[int, int]:
        """A pipe that a script can open by name: `echo … >/dev/stderr` opens it anew, as the uid of the run.

        Nobody else comes by it: the name leads over /proc to a descriptor that only the run's processes have.
        """
        reading, writing = self.pipe()
        os.fchmod(writing, stat.S_IRUSR | stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
        return reading, writing

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        with _needed("a channel cannot be made"):
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sockets += ends
        return ends

    def memory(self, name: str, data: bytes) -> int:
        with _needed("a memory file cannot be made"):
            descriptor = os.memfd_create(f"ringfence-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._open.append(descriptor)
        _write_all(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def constant(self, data: bytes) -> int:
        """What holds this, read from its beginning, for one who closes it before any script begins.

        Many launches need the same. They read the same file, which nobody can change, each at a place of its own.
        """
        return self.open(f"/proc/self/fd/{_constant(data).fileno()}", os.O_RDONLY)

    def keep(self, *descriptors: int) -> None:
        self._open = [descriptor for descriptor in self._open if descriptor not in descriptors]

    def keep_socket(self, end: socket.socket) -> None:
        self._sockets.remove(end)
