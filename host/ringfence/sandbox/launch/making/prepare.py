"""Do what a plan says: prepare a sandbox that waits, start a script in it, and see it through to its end.

*Prepare* spawns the wrapper as the planned identity; it makes namespaces, mounts and filter, and runs a small trusted
bootstrap that waits on its channel. *Start* hands over the payload (script, context, environment) and says go. A cold
run does both at once; a warm one has time between them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import platform
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from ringfence.sandbox import egress
from ringfence.sandbox.filters import landlock_main
from ringfence.sandbox.filters.seccomp import Architecture
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease, NoUidFree
from ringfence.sandbox.launch.channel import Channel
from ringfence.sandbox.launch.making import viewing
from ringfence.sandbox.launch.making.entry import Entered, enter, enters, told
from ringfence.sandbox.launch.making.folders import Folder
from ringfence.sandbox.launch.making.furnishing import room_of
from ringfence.sandbox.launch.making.handing import SEALS, Descriptors, Placed, needed, write_all
from ringfence.sandbox.launch.making.plain import PlainTree
from ringfence.sandbox.launch.supervision.state import StateDirectory
from ringfence.sandbox.launch.words import Command, Hand, LaunchFailed
from ringfence.sandbox.limits.counting import looking
from ringfence.sandbox.limits.counting.tree import Tree
from ringfence.sandbox.numbers import (
    BOOTSTRAP,
    CHANNEL,
    CONFINEMENT,
    CONFINER,
    LATCH,
    LIBRARIES,
    PAYLOAD,
    RULES,
    WRAPPER,
)
from ringfence.sandbox.plan.furnish import own_proc
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.processes.spawner import Child, SpawnFailed, is_ready, spawner_for
from ringfence.sandbox.wrappers.room import Wrapper
from ringfence.sandbox.wrappers.stage import stage

_MOST_WORDS = 16 * 1024
"""How much of what a wrapper said is read."""


@dataclass(slots=True)
class Prepared:
    """A sandbox that waits for its script; all descriptors are ours.

    Used once, by `supervise.run`, or discarded. One that is to have a cgroup of its own, or a
    relay, is `entering`; of another one, `entered` is what it has told while it waited. `lease` is the uid that it has
    to itself, if the plan wants that.
    """

    plan: Plan
    child: Child
    stdout: int
    stderr: int
    info: int
    channel: Channel
    payload: int
    folder: Folder
    stdin: int = -1
    plain: PlainTree | None = None
    entering: Future[Entered] | None = None
    entered: Entered | None = None
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
        kind = looking.DistantTree if distant else Tree
        return kind(init, own_network=own_network, proc=own_proc(self.plan))

    def state(self, init: int | None) -> StateDirectory:
        """The run's state directory, when its room is there; of a plain run, in its scratch. Raises StateError."""
        most = self.plan.resources.max_state_bytes
        if self.plain is not None:
            return StateDirectory(self.plain.state, self.owner, most)
        assert init is not None
        return StateDirectory.inside(init, self.owner, most)

    def learn(self) -> bool:
        """Take in what it has told, as far as it waits ready; whether it does. Does not wait.

        Nobody else may use it meanwhile.
        """
        if self.entering is not None:
            return self.entering.done()
        if self.entered is None:
            self.entered = told(self.child.answers, self.info)
        return self.entered is not None

    def start(self, hand: Hand) -> None:
        """Hand over what there is for the script and let the bootstrap go. What was handed over cannot change any more.

        Raises LaunchFailed if there is no room for it.
        """
        handed = hand(self.folder.inside)
        with needed("the script cannot be put into its sandbox"):
            for name, content in handed.files:
                self.folder.put(name, content)
            if self.folder.proc is not None:
                viewing.fill(self.folder.proc, self.plan)
        if self.stdin >= 0:
            # By position: the script reads from the beginning, at the offset that it shares with this.
            os.pwrite(self.stdin, handed.stdin or b"", 0)
            fcntl.fcntl(self.stdin, fcntl.F_ADD_SEALS, SEALS)
            os.close(self.stdin)
            self.stdin = -1
        write_all(self.payload, handed.payload)
        fcntl.fcntl(self.payload, fcntl.F_ADD_SEALS, SEALS)
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
        for descriptor in (self.stdout, self.stderr, self.info, self.payload, self.log, self.stdin):
            if descriptor >= 0:
                os.close(descriptor)
        self.stdout = self.stderr = self.info = self.payload = self.log = self.stdin = -1
        self.channel.close()
        self.child.answers.close()
        self.give_back()
        if self.plain is not None:
            self.plain.close()
            self.plain = None

    def give_back(self) -> None:
        """Remove what was handed over, and give back its uid: nothing of it runs any more."""
        if self.plain is None:
            # (A plain run's goes with its scratch.)
            self.folder.close()
        if self.lease is not None:
            self.lease.close()


def takes_long(plan: Plan) -> bool:
    """Whether `prepare` has to wait for another process first: then it is for a thread and for no event loop."""
    if plan.wrapper is None:
        return True
    showing, lean = bool(plan.host_view), not plan.sees_host
    if plan.uids is None:
        return not is_ready(plan.identity, showing=showing, lean=lean)
    return not is_ready(plan.uids.spawner, leaving=True, showing=showing, lean=lean) or (
        os.geteuid() != 0 and not looking.is_ready()
    )


def prepare(plan: Plan, command: Command) -> Prepared:
    """Spawn a sandbox that waits for its start. Returns while the sandbox is still being made.

    Raises:
        LaunchFailed: if it cannot even be spawned. Later failures show when it is run.
    """
    if not hasattr(os, "memfd_create"):
        raise LaunchFailed("scripts are run on Linux only")
    with Descriptors() as ours:
        stdout, stdout_inside = ours.output()
        stderr, stderr_inside = ours.output()
        info, info_inside = ours.pipe()
        channel, channel_inside = ours.sockets()
        payload = ours.memory("payload", b"")
        stdin = ours.memory("stdin", b"") if command.reads else -1
        inside = {
            0: stdin if command.reads else ours.open(os.devnull, os.O_RDONLY),
            1: stdout_inside,
            2: stderr_inside,
            PAYLOAD: payload,
            CHANNEL: channel_inside.fileno(),
        }
        if command.bootstrap is not None:
            inside[BOOTSTRAP] = ours.constant(command.bootstrap)
        try:
            log = -1
            lease = ours.lease(plan)
            if plan.wrapper is None:
                plain = PlainTree(lease or plan.identity, state=plan.state)
                folder = plain.folder
                try:
                    _link(folder, command)
                    child = _spawn_plain(plan, plain, command, ours, inside)
                except BaseException:
                    plain.close()
                    raise
            else:
                plain = None
                folder = ours.folder(plan.wrapper.hides, plan)
                _link(folder, command)
                child, log = _spawn_wrapped(
                    plan.wrapper, plan, command, ours, inside, info_inside, folder, lease
                )
        except (OSError, SpawnFailed, NoUidFree, looking.NoLookerError) as error:
            raise LaunchFailed(str(error)) from error
        ours.keep(stdout, stderr, info, payload, stdin)
        ours.keep_folder()
        ours.keep_socket(channel)
        ours.keep_lease()
    for descriptor in (stdout, stderr, info):
        os.set_blocking(descriptor, False)
    prepared = Prepared(
        plan,
        child,
        stdout,
        stderr,
        info,
        Channel(channel),
        payload,
        folder,
        stdin,
        plain,
        log=log,
        lease=lease,
    )
    if enters(plan):
        prepared.entering = enter(child.answers, info, plan, prepared.owner)
    return prepared


def _link(folder: Folder, command: Command) -> None:
    for name, target in command.links:
        folder.link(name, target)


def _spawn_plain(
    plan: Plan, plain: PlainTree, command: Command, ours: Descriptors, inside: dict[int, int]
) -> Child:
    arguments = command.arguments
    if plan.confinement is not None:
        orders = plan.confinement.to_json(Architecture.of(platform.machine()), plain.home, plain.folder.path)
        inside[CONFINER] = ours.memory("confine", _confining_program())
        inside[CONFINEMENT] = ours.memory("orders", orders)
        program = f"/proc/self/fd/{CONFINER}"
        arguments = (plan.confinement.python, "-ISB", program, *arguments)
    return plain.spawn(_executable(arguments[0]), arguments, dict(command.environment), inside)


@functools.cache
def _confining_program() -> bytes:
    return Path(landlock_main.__file__).read_bytes()


def _spawn_wrapped(
    wrapper: Wrapper,
    plan: Plan,
    command: Command,
    ours: Descriptors,
    inside: dict[int, int],
    info: int,
    folder: Folder,
    lease: Lease | None,
) -> tuple[Child, int]:
    """The child, and the descriptor of what the wrapper says beside the script's own error output; -1 for none."""
    environment = dict(command.environment)
    for number, library in zip(LIBRARIES, wrapper.libraries, strict=False):
        inside[number] = _executable(library)
        # Not for the script: the wrapper unsets it, and the bootstrap closes the descriptor.
        environment["LD_PRELOAD"] = f"{environment.get('LD_PRELOAD', '')} /proc/self/fd/{number}".strip()
    placed = Placed(inside, ours, info, folder, on_stage=plan.egress is not None)
    start = wrapper.start(room_of(plan), command.arguments, placed)
    executable = _executable(wrapper.program)
    preparations = []
    if plan.egress is not None:
        rules = _rules(plan.egress)
        inside[RULES] = ours.memory("rules", rules.data)
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
    identity = lease.spawner if lease is not None else plan.identity
    spawner = spawner_for(
        identity, leaving=lease is not None, showing=bool(plan.host_view), lean=not plan.sees_host
    )
    latch = LATCH if placed.waits else None
    child = spawner.spawn(executable, argv, environment, inside, lease=lease, latch=latch)
    ours.keep(placed.log)
    return child, placed.log


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


@functools.cache
def _executable(path: str) -> int:
    """An open descriptor of a program or its library, kept for the life of the process.

    Executed by it, its path need not be in reach.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LaunchFailed(f"{path} cannot be opened: {error.strerror}") from error
