"""See one prepared sandbox through: start it, read it, hold its limits, and leave nothing of it behind."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ringfence.sandbox.cgroup import RunGroup
from ringfence.sandbox.egress import Attachment, EgressPlan, LinkFailed, attach
from ringfence.sandbox.entry import Entered
from ringfence.sandbox.launch import LaunchFailed, Prepared
from ringfence.sandbox.output import CHUNK, Budget, Capture
from ringfence.sandbox.pidfds import init_of, kill, pid_of
from ringfence.sandbox.reach import unreachable
from ringfence.sandbox.spawner import Ended, SpawnFailed, Started, receive
from ringfence.sandbox.tree import LONGEST_INTERVAL_S, MOST_LOCKS, Tree, next_look

PREPARE_TIMEOUT_S = 30.0
"""How long a sandbox may take to be made. Not part of the script's time."""

STUCK_TIMEOUT_S = 5.0
"""How long a wrapper that is to be stopped may take to tell of its init before it is killed itself."""

BYTES_PER_FILE = 4096
"""The kernel keeps about 1 KiB per empty file outside of the tmpfs's size: so many as fit at this size are allowed."""

KILLED = -9
"""The exit code of a run that the supervisor killed."""

STARTED = b"started\n"
"""What the bootstrap says on the channel when it hands over to the script; the value follows."""

_lookers = ThreadPoolExecutor(8, thread_name_prefix="ringfence-look")


class Stop(enum.Enum):
    """Why the supervisor killed a run."""

    TIMEOUT = "timeout"
    OUTPUT = "output"
    MEMORY = "memory"
    FILES = "files"
    CANCELLED = "cancelled"
    NEVER_STARTED = "never started"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the supervisor itself holds of one run's limits."""

    timeout_s: float
    output_bytes: int
    value_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went.

    `value` is what came on the channel, None if nothing did or it was too large. `link_ended` is why the link of a
    run with egress went away while the script still ran, None if it did not. `cpu_s` is the processor time of the whole
    tree, None where no cgroup accounts for it.
    """

    exit_code: int
    stdout: str
    stderr: str
    stopped: Stop | None
    value: bytes | None
    value_too_large: bool
    prepare_s: float
    run_s: float
    link_ended: str | None = None
    cpu_s: float | None = None


async def run(prepared: Prepared, payload: bytes, bounds: Bounds) -> Outcome:
    """Start the script in a prepared sandbox and return when its whole tree is gone, for whatever reason.

    Raises:
        LaunchFailed: if the sandbox failed before the script's first line.
        asyncio.CancelledError: after the tree is gone, if this was cancelled.
    """
    supervision = _Supervision(prepared, bounds)
    try:
        return await supervision.run(payload)
    finally:
        supervision.close()


class _Supervision:
    """The readers, the clocks and the end of one run, on the running loop."""

    def __init__(self, prepared: Prepared, bounds: Bounds) -> None:
        self._loop = asyncio.get_running_loop()
        self._prepared = prepared
        self._bounds = bounds
        self._budget = Budget(bounds.output_bytes)
        self._stdout = Capture(prepared.stdout, self._budget)
        self._stderr = Capture(prepared.stderr, self._budget)
        self._said = bytearray()
        self._said_too_much = False
        self._info = b""
        self._monitor: Started | None = None
        self._monitor_exit: int | None = None
        self._init: int | None = None
        self._tree: Tree | None = None
        self._looking: asyncio.Future[tuple[int, int, int]] | None = None
        self._group: RunGroup | None = None
        self._cpu_before: float | None = None
        self._stopped: Stop | None = None
        self._failure: str | None = None
        self._begun = time.monotonic()
        self._started: float | None = None
        self._gone = self._loop.create_future()
        self._made: asyncio.Future[None] = self._loop.create_future()
        self._link_ended: str | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._readers: set[int] = set()

    async def run(self, payload: bytes) -> Outcome:
        try:
            return await self._run(payload)
        finally:
            if self._looking is not None:
                await asyncio.wait([self._looking])

    async def _run(self, payload: bytes) -> Outcome:
        if self._prepared.entering is not None:
            await self._adopt(self._prepared.entering)
        self._attend()
        if self._stopped is Stop.CANCELLED:
            await self._gone
            raise asyncio.CancelledError
        plan = self._prepared.plan
        if plan.egress is not None:
            await self._run_linked(plan.egress, payload)
        elif self._stopped is None:
            self._start(payload)
            await self._until_gone()
        else:
            await self._until_gone()
        return self._outcome()

    def _start(self, payload: bytes) -> None:
        if self._group is not None:
            self._cpu_before = self._group.cpu_seconds()
        self._prepared.start(payload)

    async def _adopt(self, entering: Future[Entered]) -> None:
        """Take over what was learnt while the sandbox entered its cgroup; if it could not, it will never start."""
        future = asyncio.wrap_future(entering)
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            await asyncio.wait([future])
            self._stopped = Stop.CANCELLED
        entered = future.result()
        self._monitor, self._info, self._init = entered.monitor, entered.info, entered.init
        self._group, self._failure = entered.group, entered.failure
        if self._init is not None:
            self._made.set_result(None)
        if self._stopped is not None and self._init is not None:
            kill(self._init)
        if self._failure is not None:
            self._stop(Stop.NEVER_STARTED)

    async def _run_linked(self, egress: EgressPlan, payload: bytes) -> None:
        """Run with a link, which comes when the filter is known to be loaded and goes when the tree is gone."""
        link = None
        try:
            link = await self._link(egress) if self._stopped is None else None
            if link is not None:
                self._start(payload)
        except asyncio.CancelledError:
            self._stop(Stop.CANCELLED)
            await self._gone
            raise
        try:
            await self._until_gone()
        finally:
            if link is not None:
                self._link_ended = link.ended
                await link.close()

    async def _link(self, egress: EgressPlan) -> Attachment | None:
        """The link, or None if the sandbox ended or could not get one; then it is on its way out."""
        await asyncio.wait((self._made, self._gone), return_when=asyncio.FIRST_COMPLETED)
        if self._monitor is None or self._gone.done():
            return None
        try:
            return await attach(egress, self._monitor.pid, self._prepared.plan.identity)
        except LinkFailed as error:
            self._failure = str(error)
            self._stop(Stop.NEVER_STARTED)
            return None

    def _attend(self) -> None:
        prepared = self._prepared
        self._read(prepared.child.answers.fileno(), self._on_answer)
        self._read(prepared.info, self._on_info)
        self._read(prepared.channel.fileno(), self._on_channel)
        self._read(prepared.stdout, lambda: self._on_output(self._stdout))
        self._read(prepared.stderr, lambda: self._on_output(self._stderr))
        self._later("prepare", PREPARE_TIMEOUT_S, self._on_never_started)

    async def _until_gone(self) -> None:
        try:
            await asyncio.shield(self._gone)
        except asyncio.CancelledError:
            self._stop(Stop.CANCELLED)
            await self._gone
            raise

    # What is heard

    def _on_answer(self) -> None:
        try:
            answer = receive(self._prepared.child.answers)
        except BlockingIOError:
            return
        except SpawnFailed as error:
            self._failure = self._failure or str(error)
            self._ignore(self._prepared.child.answers.fileno())
            self._on_monitor_end(KILLED)
            return
        if isinstance(answer, Started):
            self._monitor = answer
            self._find_init()
        elif isinstance(answer, Ended):
            self._ignore(self._prepared.child.answers.fileno())
            self._on_monitor_end(answer.exit_code)

    def _on_info(self) -> None:
        try:
            data = os.read(self._prepared.info, CHUNK)
        except BlockingIOError:
            # Read when the wrapper's end was told, in the same turn of the loop.
            return
        self._info += data
        if not data:
            self._ignore(self._prepared.info)
        self._find_init()
        self._find_exit()

    def _find_exit(self) -> None:
        """The wrapper tells how the script ended before it ends itself, which saves a way over the spawner."""
        for line in self._info.splitlines()[1:]:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if "exit-code" in told:
                    self._on_monitor_end(int(told["exit-code"]))

    def _find_init(self) -> None:
        """Both the wrapper's pid and what it told of its child are needed; they come in any order."""
        if self._init is None and self._monitor is not None and b"\n" in self._info:
            self._init = init_of(self._info, self._monitor.pid)
            if not self._made.done():
                self._made.set_result(None)
            if self._init is not None and self._stopped is not None:
                kill(self._init)

    def _on_channel(self) -> None:
        try:
            data = self._prepared.channel.recv(CHUNK)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._ignore(self._prepared.channel.fileno())
        self._hear(data)

    def _hear(self, data: bytes) -> None:
        room = len(STARTED) + self._bounds.value_bytes - len(self._said)
        self._said += data[:room]
        self._said_too_much = self._said_too_much or len(data) > room
        if self._started is None and self._said.startswith(STARTED):
            self._started = time.monotonic()
            self._later("timeout", self._bounds.timeout_s, lambda: self._stop(Stop.TIMEOUT))
            self._later("look", next_look(0, self._prepared.plan.resources.memory_bytes), self._look)

    def _on_output(self, capture: Capture) -> None:
        capture.read()
        if self._budget.exceeded:
            self._stop(Stop.OUTPUT)
        if capture.ended or self._budget.exceeded:
            self._ignore(capture.descriptor)

    def _on_never_started(self) -> None:
        if self._started is None:
            self._stop(Stop.NEVER_STARTED)

    # What is held

    def _look(self) -> None:
        """Hold the limits that the supervisor holds by looking, and look again in time."""
        if self._gone.done() or self._init is None or self._stopped is not None:
            return
        self._looking = self._loop.run_in_executor(_lookers, self._seen, self._init)
        self._looking.add_done_callback(self._judge)

    def _seen(self, init: int) -> tuple[int, int, int]:
        """The memory, the files and the locks in use. Raises OSError.

        On a thread: a script decides how long the kernel takes to tell (many processes that share much memory), and
        the loop is not only its own.
        """
        if self._tree is None:
            self._tree = Tree(pid_of(init))
        # Of a run with a cgroup of its own, the kernel sees more than the sum of its processes shows.
        limit = self._prepared.plan.resources.memory_bytes
        memory = self._tree.memory(limit) if self._group is None else 0
        return memory, self._tree.files(), self._tree.locks()

    def _judge(self, looking: asyncio.Future[tuple[int, int, int]]) -> None:
        if isinstance(looking.exception(), OSError):
            # Its init is gone, and the end is about to be told; or this host is short of something, for now.
            if not self._gone.done():
                self._later("look", LONGEST_INTERVAL_S, self._look)
            return
        used, files, locks = looking.result()
        limits = self._prepared.plan.resources
        if self._gone.done():
            return
        if used > limits.memory_bytes or locks > MOST_LOCKS:
            self._stop(Stop.MEMORY)
        elif files > limits.max_scratch_bytes // BYTES_PER_FILE:
            self._stop(Stop.FILES)
        else:
            self._later("look", next_look(used, limits.memory_bytes), self._look)

    # How it ends

    def _stop(self, why: Stop) -> None:
        if self._stopped is None and not self._gone.done():
            self._stopped = why
            if self._prepared.plain is not None:
                self._prepared.plain.kill()
            elif self._init is not None:
                kill(self._init)
            else:
                # Its init is killed as soon as the wrapper tells of it; a wrapper that does not is stuck.
                self._later("stuck", STUCK_TIMEOUT_S, self._kill_monitor)

    def _kill_monitor(self) -> None:
        if self._init is None and self._monitor is not None:
            kill(self._monitor.pidfd)

    def _on_monitor_end(self, exit_code: int) -> None:
        """The wrapper ends; it may leave its init with the script's children, which end now."""
        if self._monitor_exit is not None:
            return
        self._monitor_exit = exit_code
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._prepared.info, CHUNK):
                self._info += data
        self._find_init()
        if self._prepared.plain is not None:
            self._prepared.plain.kill()
            self._on_init_end()
        elif self._init is None:
            self._on_init_end()
        else:
            kill(self._init)
            self._read(self._init, self._on_init_end)

    def _await_monitor(self) -> None:
        """The wrapper has nothing left to do; with it, the last process of the run goes."""
        if self._monitor is None:
            self._finish()
        else:
            self._read(self._monitor.pidfd, self._finish)

    def _on_init_end(self) -> None:
        """A pidfd of a namespace's init becomes readable when every process of the namespace has been
        reaped."""
        self._stdout.drain()
        self._stderr.drain()
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while not self._said_too_much and (data := self._prepared.channel.recv(CHUNK)):
                self._hear(data)
        if self._init is not None:
            self._ignore(self._init)
        self._await_monitor()

    def _finish(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    def _outcome(self) -> Outcome:
        ended = time.monotonic()
        if self._started is None:
            said = " ".join(self._stderr.text().split()) or f"it ended with status {self._monitor_exit}"
            raise LaunchFailed(f"the sandbox could not be made: {self._failure or self._explained(said)}")
        value = bytes(self._said[len(STARTED) :])
        stopped = Stop.OUTPUT if self._budget.exceeded and self._stopped is None else self._stopped
        if stopped is None and self._group is not None and self._group.ran_out_of_memory():
            stopped = Stop.MEMORY
        return Outcome(
            exit_code=self._monitor_exit if stopped is None and self._monitor_exit is not None else KILLED,
            stdout=self._stdout.text(),
            stderr=self._stderr.text(),
            stopped=stopped,
            value=value if value and not self._said_too_much else None,
            value_too_large=self._said_too_much,
            prepare_s=self._started - self._begun,
            run_s=ended - self._started,
            link_ended=self._link_ended,
            cpu_s=self._cpu_seconds(),
        )

    def _explained(self, said: str) -> str:
        """What the wrapper said when it failed, behind a reason that names what is wrong, if that is found."""
        plan = self._prepared.plan
        reason = None if plan.packages is None else unreachable(plan.packages, *plan.identity)
        return said if reason is None else f"the package tree: {reason} ({said})"

    def _cpu_seconds(self) -> float | None:
        used = None if self._group is None else self._group.cpu_seconds()
        return None if used is None or self._cpu_before is None else used - self._cpu_before

    # What it stands on

    def _read(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._loop.add_reader(descriptor, self._guarded(callback))
        self._readers.add(descriptor)

    def _ignore(self, descriptor: int) -> None:
        if descriptor in self._readers:
            self._readers.discard(descriptor)
            self._loop.remove_reader(descriptor)

    def _later(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        self._timers[name] = self._loop.call_later(seconds, self._guarded(callback))

    def _guarded(self, callback: Callable[[], None]) -> Callable[[], None]:
        """A callback whose failure ends the run with it: the loop would log it, and the run would never end."""

        def guarded() -> None:
            try:
                callback()
            except Exception as error:
                if self._gone.done():
                    raise
                self._gone.set_exception(error)

        return guarded

    def close(self) -> None:
        """Let go of everything; whatever still lives is killed."""
        for descriptor in tuple(self._readers):
            self._ignore(descriptor)
        for timer in self._timers.values():
            timer.cancel()
        if self._looking is None or self._looking.done():
            self._close_tree()
        else:
            self._looking.add_done_callback(lambda _: self._close_tree())
        if self._init is not None:
            kill(self._init)
            os.close(self._init)
        if self._monitor is not None:
            kill(self._monitor.pidfd)
            os.close(self._monitor.pidfd)
        if self._group is not None:
            self._group.close()
        self._prepared.close()
        self._finish()

    def _close_tree(self) -> None:
        if self._tree is not None:
            self._tree.close()
