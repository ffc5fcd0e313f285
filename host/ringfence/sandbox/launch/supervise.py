"""See one prepared sandbox through: start it, read it, hold its limits, and leave nothing of it behind.

What happens is told to the run's `Course`, and what that decides is done here. Nothing is done on the event loop that
a script could make take long: looking, killing and removing are other threads' work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ringfence.sandbox.egress import Attachment, EgressPlan, LinkFailed, attach
from ringfence.sandbox.launch.course import Course
from ringfence.sandbox.launch.discard import discard
from ringfence.sandbox.launch.kill import kill_namespace
from ringfence.sandbox.launch.moments import (
    Action,
    Bounds,
    Do,
    End,
    Event,
    ExitTold,
    Finish,
    Fired,
    Joined,
    Killed,
    Looked,
    LookFailed,
    NotLinked,
    NotSpawned,
    Now,
    Said,
    SetTimer,
    Stop,
    Timer,
)
from ringfence.sandbox.launch.output import CHUNK, Budget, Capture
from ringfence.sandbox.launch.prepare import Prepared
from ringfence.sandbox.launch.words import LaunchFailed
from ringfence.sandbox.limits.cgroups.entry import Entered
from ringfence.sandbox.limits.cgroups.unified import RunGroup
from ringfence.sandbox.limits.counting.looking import DistantTree
from ringfence.sandbox.limits.counting.tree import NotSeen, Tree, TreeGone
from ringfence.sandbox.plan.model import Reach
from ringfence.sandbox.processes.pidfds import init_of, kill, pid_of
from ringfence.sandbox.processes.spawner import Ended, SpawnFailed, Started, receive
from ringfence.sandbox.workers import KILLS, LOOKS, REMOVALS, UNMOUNTS
from ringfence.sandbox.wrappers.barriers import unreachable

__all__ = ["Bounds", "Listen", "Outcome", "Stop", "run"]

_log = logging.getLogger(__name__)
REST_S = 0.001
"""After how long the rest of a line of the wrapper is read."""

T = TypeVar("T")
Listen = Callable[[str, bytes], None]
"""Is told which stream was written to, and what."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went.

    `value` is what came on the channel, None if nothing did or it was too large. `link_ended` is why the link of a
    run with egress went away while the script still ran, None if it did not. `cpu_s` is the processor time of the whole
    tree, None where no cgroup accounts for it. `failure` says more about a stop, where there is more to say. `left` are
    the processes that could not be killed.
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
    failure: str | None = None
    left: tuple[int, ...] = ()


async def run(prepared: Prepared, payload: bytes, bounds: Bounds, listen: Listen | None = None) -> Outcome:
    """Start the script in a prepared sandbox and return when its whole tree is gone, for whatever reason.

    `listen` is told what the script writes, as it is read; it must not wait, nor raise.

    Raises:
        LaunchFailed: if the sandbox failed before the script was seen to start.
        asyncio.CancelledError: after the tree is gone, if this was cancelled.
    """
    supervision = _Supervision(prepared, payload, bounds, listen)
    try:
        end = await supervision.until_ended()
    finally:
        supervision.let_go()
        if supervision.is_held_up:
            await _uncancelled(supervision.clear())
        supervision.close()
    return supervision.outcome(end)


class _Supervision:
    """The readers, the clocks and the hands of one run's course, on the running loop."""

    def __init__(
        self, prepared: Prepared, payload: bytes, bounds: Bounds, listen: Listen | None = None
    ) -> None:
        plan = prepared.plan
        self._loop = asyncio.get_running_loop()
        self._prepared = prepared
        self._payload = payload
        self._budget = Budget(bounds.output_bytes)
        self._stdout = Capture(prepared.stdout, self._budget, listen and partial(listen, "stdout"))
        self._stderr = Capture(prepared.stderr, self._budget, listen and partial(listen, "stderr"))
        self._course = Course(
            bounds,
            plan.resources,
            plain=prepared.plain is not None,
            enters=prepared.entering is not None,
            linked=plan.egress is not None,
        )
        self._info = b""
        self._monitor: Started | None = None
        self._init: int | None = None
        self._init_told = False
        self._mounts = -1
        self._tree: Tree | DistantTree | None = None
        self._group: RunGroup | None = None
        self._cpu_before: float | None = None
        self._cpu_s: float | None = None
        self._begun = time.monotonic()
        self._started: float | None = None
        self._ended_at = self._begun
        self._ended: asyncio.Future[End] = self._loop.create_future()
        self._work: set[asyncio.Future[None]] = set()
        self._linking: asyncio.Task[None] | None = None
        self._link: Attachment | None = None
        self._link_ended: str | None = None
        self._explanation = ""
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._rest: asyncio.TimerHandle | None = None
        self._readers: set[int] = set()

    async def until_ended(self) -> End:
        """See it through. Raises CancelledError when it has ended, if this was cancelled, or what went wrong here."""
        self._guarded(self._begin)()
        cancelled = False
        while not self._ended.done():
            try:
                await asyncio.wait((self._ended,))
            except asyncio.CancelledError:
                cancelled = True
                self._guarded(self._tell)(Now.CANCELLED)
        if cancelled:
            raise asyncio.CancelledError
        return self._ended.result()

    def _begin(self) -> None:
        prepared = self._prepared
        self._do(self._course.begin())
        self._read(prepared.channel.fileno(), self._on_channel)
        self._read(prepared.stdout, lambda: self._on_output(self._stdout))
        self._read(prepared.stderr, lambda: self._on_output(self._stderr))
        if prepared.entering is None:
            self._attend()
        else:
            self._then(prepared.entering, self._adopt)

    def _attend(self) -> None:
        self._read(self._prepared.child.answers.fileno(), self._on_answer)
        self._read(self._prepared.info, self._on_info)
        if self._monitor is None:
            # Of a sandbox that has waited, it is there already.
            self._on_answer()

    def _adopt(self, entered: Entered) -> None:
        """Take over what was learnt while the sandbox entered its cgroup."""
        self._monitor, self._info, self._init = entered.monitor, entered.info, entered.init
        self._group = entered.group
        self._init_told = self._init is not None
        if self._init_told:
            # Its first line has been heard.
            self._info = self._info.partition(b"\n")[2]
            self._hold_mounts()
        self._prepared.entering = None
        if self._ended.done():
            return
        self._attend()
        if self._monitor is not None:
            self._tell(Now.SPAWNED)
        if self._init is not None:
            self._tell(Now.INIT_FOUND)
        self._tell(Joined(entered.failure))
        self._on_told()

    # What is heard

    def _tell(self, event: Event) -> None:
        self._do(self._course.hear(event))

    def _on_answer(self) -> None:
        try:
            answer = receive(self._prepared.child.answers)
        except BlockingIOError:
            return
        except SpawnFailed as error:
            self._ignore(self._prepared.child.answers.fileno())
            self._on_info()
            self._tell(NotSpawned(str(error)))
            return
        if isinstance(answer, Started):
            self._monitor = answer
            self._tell(Now.SPAWNED)
            self._on_told()
        elif isinstance(answer, Ended):
            self._ignore(self._prepared.child.answers.fileno())
            self._on_info()
            self._tell(ExitTold(answer.exit_code))

    def _on_info(self) -> None:
        """Take all that the wrapper has told so far."""
        info = self._prepared.info
        try:
            while data := os.read(info, CHUNK):
                self._info += data
            self._ignore(info)
        except BlockingIOError:
            if self._info and not self._info.endswith(b"\n") and info in self._readers:
                # A line comes in pieces, of which each would wake us, and keep the one that writes them from going on.
                self._ignore(info)
                self._rest = self._loop.call_later(REST_S, lambda: self._read(info, self._on_info))
        self._on_told()

    def _on_told(self) -> None:
        """Both the wrapper's pid and what it told are needed; they come in any order.

        It tells how the script ended before it ends itself, which saves a way over the spawner.
        """
        if self._monitor is None or b"\n" not in self._info:
            return
        *lines, self._info = self._info.split(b"\n")
        if not self._init_told:
            self._init_told = True
            self._init = init_of(lines.pop(0), self._monitor.pid)
            self._hold_mounts()
            self._tell(Now.INIT_LOST if self._init is None else Now.INIT_FOUND)
        for line in lines:
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if "exit-code" in told:
                    self._tell(ExitTold(int(told["exit-code"])))

    def _hold_mounts(self) -> None:
        """Let the mounts outlive the last process: nobody has to wait until the kernel has undone them."""
        if self._init is not None:
            # Not every supervisor may (ptrace(2), on access): then its init takes longer to end.
            with contextlib.suppress(OSError):
                self._mounts = os.open(f"/proc/{pid_of(self._init)}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def _on_channel(self) -> None:
        try:
            data = self._prepared.channel.recv(CHUNK)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if data:
            self._hear(data)
        if not data or not self._course.listens:
            self._ignore(self._prepared.channel.fileno())

    def _hear(self, data: bytes) -> None:
        self._tell(Said(data))
        if self._course.started and self._started is None:
            self._started = time.monotonic()

    def _on_output(self, capture: Capture) -> None:
        capture.read()
        if self._budget.exceeded:
            self._tell(Now.OVER_CAP)
        if capture.ended or self._budget.exceeded:
            self._ignore(capture.descriptor)

    def _on_monitor_gone(self) -> None:
        assert self._monitor is not None
        self._ignore(self._monitor.pidfd)
        # It may have told how the script ended, just before.
        self._on_info()
        self._tell(Now.MONITOR_GONE)

    def _on_init_gone(self) -> None:
        """A pidfd of a namespace's init becomes readable when every process of the namespace has been reaped."""
        assert self._init is not None
        self._ignore(self._init)
        self._tell(Now.INIT_GONE)

    # What is done

    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case SetTimer(timer, seconds):
                    self._set(timer, seconds)
                case Finish(end):
                    self._finish(end)
                case Do.START:
                    self._start()
                case Do.LINK:
                    self._linking = self._loop.create_task(self._attach())
                case Do.LOOK:
                    assert self._init is not None
                    self._then(LOOKS.submit(self._look, self._init), self._tell)
                case Do.KILL_INIT:
                    assert self._init is not None
                    kill(self._init)
                case Do.KILL_ALL:
                    self._then(KILLS.submit(self._kill_all), lambda left: self._tell(Killed(left)))
                case Do.KILL_MONITOR:
                    assert self._monitor is not None
                    kill(self._monitor.pidfd)
                case Do.WATCH_INIT:
                    assert self._init is not None
                    self._read(self._init, self._on_init_gone)
                case Do.WATCH_MONITOR:
                    assert self._monitor is not None
                    self._read(self._monitor.pidfd, self._on_monitor_gone)
                case Do.DRAIN:
                    self._drain()

    def _start(self) -> None:
        if self._group is not None:
            self._cpu_before = self._group.cpu_seconds()
        self._prepared.start(self._payload)

    async def _attach(self) -> None:
        """Give it its link, which comes when the filter is known to be loaded and goes when the tree is gone."""
        plan = self._prepared.plan
        assert self._monitor is not None
        assert isinstance(plan.egress, EgressPlan)
        try:
            self._link = await attach(plan.egress, self._monitor.pid, self._prepared.owner)
        except LinkFailed as error:
            self._guarded(self._tell)(NotLinked(str(error)))
        except Exception as error:
            _log.exception("a run cannot get its link")
            self._guarded(self._tell)(NotLinked(f"{type(error).__name__}: {error}"))
        else:
            self._guarded(self._tell)(Now.LINKED)

    def _look(self, init: int) -> Event:
        """See what it uses: on a thread, since a script decides how long the kernel takes to tell."""
        try:
            if self._tree is None:
                own_network = self._prepared.plan.reach is not Reach.HOST
                self._tree = self._prepared.tree(pid_of(init), own_network=own_network)
            # Of a run with a cgroup of its own, the kernel sees more than the sum of its processes shows.
            limit = self._prepared.plan.resources.memory_bytes
            use = self._tree.look(limit if self._group is None else None)
            if self._group is not None and self._group.ran_out_of_memory():
                # Not every cgroup ends as a whole for that.
                use = replace(use, memory=limit + 1)
            return Looked(use)
        except TreeGone:
            return Now.SAW_NOTHING
        except NotSeen as unseen:
            return LookFailed(str(unseen))
        except Exception as error:
            _log.exception("what a run uses could not be seen")
            return LookFailed(f"{type(error).__name__}: {error}")

    def _kill_all(self) -> tuple[int, ...]:
        """On a thread: a script decides how long that takes."""
        if self._prepared.plain is not None:
            return self._prepared.plain.kill()
        assert self._init is not None
        return kill_namespace(self._init, self._group)

    def _drain(self) -> None:
        self._stdout.drain()
        self._stderr.drain()
        if self._budget.exceeded:
            self._tell(Now.OVER_CAP)
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while self._course.listens and (data := self._prepared.channel.recv(CHUNK)):
                self._hear(data)
        if self._group is not None and self._group.ran_out_of_memory():
            self._tell(Now.OUT_OF_MEMORY)
        self._tell(Now.DRAINED)

    def _finish(self, end: End) -> None:
        self._ended_at = time.monotonic()
        self._explanation = self._prepared.explanation()
        if self._group is not None and self._cpu_before is not None:
            used = self._group.cpu_seconds()
            self._cpu_s = None if used is None else used - self._cpu_before
        if end.left:
            _log.error("processes of a run are still alive after they were killed: %s", end.left)
        if not self._ended.done():
            self._ended.set_result(end)

    # How it is told

    def outcome(self, end: End) -> Outcome:
        """The run's outcome. Raises LaunchFailed if it never was seen to start."""
        if self._started is None:
            failure = end.failure or self._explained()
            raise LaunchFailed(f"the sandbox could not be made: {failure}", begun=end.begun)
        return Outcome(
            exit_code=end.exit_code,
            stdout=self._stdout.text(),
            stderr=self._stderr.text(),
            stopped=end.stopped,
            value=end.value,
            value_too_large=end.value_too_large,
            prepare_s=self._started - self._begun,
            run_s=self._ended_at - self._started,
            link_ended=self._link_ended,
            cpu_s=self._cpu_s,
            failure=end.failure,
            left=end.left,
        )

    def _explained(self) -> str:
        """What the wrapper said when it failed, behind a reason that names what is wrong, if that is found."""
        end = self._ended.result()
        said = " ".join(self._stderr.text().split()) or self._explanation
        said = said or f"it ended with status {end.exit_code}"
        plan = self._prepared.plan
        reason = None if plan.packages is None else unreachable(plan.packages, *self._prepared.identity)
        return said if reason is None else f"the package tree: {reason} ({said})"

    # What it stands on

    def _read(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._loop.add_reader(descriptor, self._guarded(callback))
        self._readers.add(descriptor)

    def _ignore(self, descriptor: int) -> None:
        if descriptor in self._readers:
            self._readers.discard(descriptor)
            self._loop.remove_reader(descriptor)

    def _set(self, timer: Timer, seconds: float) -> None:
        if timer in self._timers:
            self._timers[timer].cancel()
        fire = self._guarded(lambda: self._tell(Fired(timer)))
        self._timers[timer] = self._loop.call_later(seconds, fire)

    def _then(self, work: Future[T], tell: Callable[[T], None]) -> None:
        """Go on when a thread has done its work."""
        future = asyncio.wrap_future(work, loop=self._loop)
        told = self._loop.create_future()
        self._work.add(told)

        def done(future: asyncio.Future[T]) -> None:
            try:
                self._guarded(lambda: tell(future.result()))()
            finally:
                self._work.discard(told)
                told.set_result(None)

        future.add_done_callback(done)

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """A callback whose failure ends the run with it: the loop would log it, and the run would never end."""

        def guarded(*args: object) -> None:
            try:
                callback(*args)
            except Exception as error:
                if self._ended.done():
                    raise
                self._ended.set_exception(error)

        return guarded

    def let_go(self) -> None:
        """Hear nothing any more."""
        for descriptor in tuple(self._readers):
            self._ignore(descriptor)
        for timer in (*self._timers.values(), *filter(None, (self._rest,))):
            timer.cancel()

    @property
    def is_held_up(self) -> bool:
        """Whether there is something to wait for before it can be closed. Most runs have nothing."""
        slow = (self._linking, self._group, self._prepared.plain)
        return self._broken or bool(self._work) or any(one is not None for one in slow)

    @property
    def _broken(self) -> bool:
        return self._ended.exception() is not None

    async def clear(self) -> None:
        """Wait for what still goes on, and take away what takes its time."""
        if self._linking is not None:
            self._linking.cancel()
            await asyncio.wait((self._linking,))
        if self._link is not None:
            self._link_ended = self._link.ended
            await self._link.close()
        while self._work:
            await asyncio.wait(self._work)
        if self._broken and (self._init is not None or self._prepared.plain is not None):
            # A fault of our own: nobody has ended it yet.
            await asyncio.wrap_future(KILLS.submit(self._kill_all))
        if self._group is not None:
            await asyncio.wrap_future(REMOVALS.submit(self._group.close))
        if self._prepared.plain is not None and not self._is_abandoned:
            await asyncio.wrap_future(REMOVALS.submit(self._prepared.close))

    @property
    def _is_abandoned(self) -> bool:
        return not self._broken and self._ended.result().abandoned

    def close(self) -> None:
        """Close all that is ours. Whatever still lives is killed."""
        if self._tree is not None:
            self._tree.close()
        if self._init is not None:
            kill(self._init)
            os.close(self._init)
        if self._mounts >= 0:
            UNMOUNTS.submit(os.close, self._mounts)
        if self._monitor is not None:
            kill(self._monitor.pidfd)
            os.close(self._monitor.pidfd)
        if self._is_abandoned:
            discard(self._prepared)
        else:
            self._prepared.close()


async def _uncancelled(work: Coroutine[None, None, None]) -> None:
    """Have it done to its end, and be cancelled only then."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
