"""See one prepared sandbox through: start it, read it, hold its limits, and leave nothing of it behind.

What happens is told to the run's `Course`, and what that decides is done here. Nothing is done on the event loop that
a script could make take long: looking, killing and removing are other threads' work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from ringfence.sandbox.egress import RelayLink
from ringfence.sandbox.launch.discard import discard
from ringfence.sandbox.launch.making.entry import Entered
from ringfence.sandbox.launch.making.prepare import Prepared
from ringfence.sandbox.launch.supervision import moments
from ringfence.sandbox.launch.supervision.course import Course
from ringfence.sandbox.launch.supervision.custody import Custody
from ringfence.sandbox.launch.supervision.link import Link
from ringfence.sandbox.launch.supervision.moments import Action, Bounds, Do, End, Event, Now, Stop
from ringfence.sandbox.launch.supervision.outcome import Outcome
from ringfence.sandbox.launch.supervision.output import CHUNK, Budget, Capture
from ringfence.sandbox.launch.supervision.reactor import Reactor
from ringfence.sandbox.launch.supervision.state import Gathered, StateDirectory, StateError, is_of_a_signal
from ringfence.sandbox.launch.supervision.telling import Telling
from ringfence.sandbox.launch.words import Hand, LaunchFailed
from ringfence.sandbox.processes.pidfds import init_of, kill, pid_of
from ringfence.sandbox.processes.spawner import Ended, SpawnFailed, Started, receive
from ringfence.sandbox.workers import KILLS, LOOKS, RELAYS, REMOVALS, STATES
from ringfence.sandbox.wrappers.barriers import unreachable

__all__ = ["Bounds", "Listen", "Outcome", "Stop", "run"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

REST, REST_S = "the rest of a line", 0.001
"""The timer that is set when a line of the wrapper has begun, and after how long the rest of it is read."""

Listen = Callable[[str, bytes], None]
"""Is told which stream was written to, and what."""


async def run(
    prepared: Prepared, hand: Hand, bounds: Bounds, listen: Listen | None = None, state: bytes = b""
) -> Outcome:
    """Start the script in a prepared sandbox and return when its whole tree is gone, for whatever reason.

    `hand` makes what the script is handed, at the moment of its start. `listen` is told what the script writes, as it
    is read; it must not wait, nor raise. `state` is what a run with a state directory finds there.

    Raises:
        LaunchFailed: if the sandbox failed before the script was seen to start.
        asyncio.CancelledError: after the tree is gone, if this was cancelled.
    """
    supervision = _Supervision(prepared, hand, bounds, listen, state)
    try:
        end = await supervision.until_ended()
        await supervision.gather(end)
    finally:
        supervision.let_go()
        if supervision.is_held_up:
            await _uncancelled(supervision.clear())
        supervision.give_back()
        # The caller has its result first.
        asyncio.get_running_loop().call_soon(supervision.close)
    return supervision.outcome(end)


class _Supervision:
    """The ears and the hands of one run's course, on the running loop."""

    def __init__(
        self, prepared: Prepared, hand: Hand, bounds: Bounds, listen: Listen | None, state: bytes
    ) -> None:
        plan = prepared.plan
        self._prepared = prepared
        self._hand = hand
        self._reactor: Reactor[End] = Reactor()
        self._custody = Custody(prepared)
        self._course = Course(
            bounds,
            plan.resources,
            plain=prepared.plain is not None,
            enters=prepared.entering is not None,
            linked=plan.egress is not None,
            keeps=plan.state,
        )
        self._budget = Budget(bounds.output_bytes)
        self._stdout = Capture(prepared.stdout, self._budget, listen and partial(listen, "stdout"))
        self._stderr = Capture(prepared.stderr, self._budget, listen and partial(listen, "stderr"))
        self._telling = Telling()
        self._answered = False
        self._link: Link | None = None
        self._relay: RelayLink | None = None
        self._tried: Mapping[str, Any] | None = None
        self._found = state
        self._state: StateDirectory | None = None
        self._gathered: Gathered | None = None
        self._link_ended: str | None = None
        self._explanation = ""
        self._begun = time.monotonic()
        self._started: float | None = None
        self._ended_at = self._begun

    async def until_ended(self) -> End:
        """See it through. Raises CancelledError when it has ended, if this was cancelled, or what went wrong here."""
        self._reactor.guarded(self._begin)()
        ended, cancelled = self._reactor.ended, False
        while not ended.done():
            try:
                await self._reactor.until_ended()
            except asyncio.CancelledError:
                cancelled = True
                self._reactor.guarded(self._tell)(Now.CANCELLED)
        if cancelled:
            raise asyncio.CancelledError
        return ended.result()

    def _begin(self) -> None:
        prepared = self._prepared
        if prepared.entering is not None:
            self._reactor.then(prepared.entering, self._adopt)
        elif prepared.entered is not None:
            self._adopt(prepared.entered)
        else:
            # What is told of a sandbox that has waited is there already, and its script starts with it: before all
            # that there is to listen to.
            self._on_answer()
            self._attend()
        # What can wait until the script of a sandbox that has waited has started comes now.
        self._do(self._course.begin())
        self._reactor.read(prepared.channel.fileno(), self._on_channel)
        self._reactor.read(prepared.stdout, lambda: self._on_output(self._stdout))
        self._reactor.read(prepared.stderr, lambda: self._on_output(self._stderr))

    def _attend(self) -> None:
        if not self._answered:
            self._reactor.read(self._prepared.child.answers.fileno(), self._on_answer)
        self._reactor.read(self._prepared.info, self._on_info)

    def _adopt(self, entered: Entered) -> None:
        """Take over what was learnt while the sandbox waited, or entered its cgroup."""
        self._custody.monitor, self._custody.init = entered.monitor, entered.init
        self._custody.group, self._relay = entered.group, entered.relay
        self._telling.hear(entered.info)
        if entered.init is not None:
            self._telling.first()
        self._prepared.entering = self._prepared.entered = None
        if self._reactor.ended.done():
            return
        if entered.monitor is not None:
            self._tell(Now.SPAWNED)
        if entered.init is not None:
            self._tell(Now.INIT_FOUND)
        failure = entered.failure
        if entered.relay is not None and not entered.relay.is_there:
            failure = "its relay ended while it waited"
        self._tell(moments.Joined(failure))
        # The script has started by now, and these are for later.
        self._custody.hold_mounts()
        self._attend()
        self._on_told()

    # What is heard

    def _tell(self, event: Event) -> None:
        self._do(self._course.hear(event))

    def _on_answer(self) -> None:
        answers = self._prepared.child.answers
        try:
            answer = receive(answers)
        except BlockingIOError:
            return
        except SpawnFailed as error:
            self._ignore_answers()
            self._on_info()
            self._tell(moments.NotSpawned(str(error)))
            return
        if isinstance(answer, Started):
            self._custody.monitor = answer
            self._tell(Now.SPAWNED)
            self._on_told()
        elif isinstance(answer, Ended):
            self._ignore_answers()
            self._on_info()
            self._tell(moments.ExitTold(answer.exit_code))

    def _ignore_answers(self) -> None:
        """The last answer was this one."""
        self._answered = True
        self._reactor.ignore(self._prepared.child.answers.fileno())

    def _on_info(self) -> None:
        """Take all that the wrapper has told so far."""
        info = self._prepared.info
        try:
            while data := os.read(info, CHUNK):
                self._telling.hear(data)
            self._reactor.ignore(info)
        except BlockingIOError:
            if self._telling.is_amid_a_line and self._reactor.reads(info):
                # A line comes in pieces, of which each would wake us, and keep the one that writes them from going on.
                self._reactor.ignore(info)
                self._reactor.set(REST, REST_S, lambda: self._reactor.read(info, self._on_info))
        self._on_told()

    def _on_told(self) -> None:
        """Both the wrapper's pid and what it told are needed; they come in any order."""
        monitor = self._custody.monitor
        if monitor is None:
            return
        if (line := self._telling.first()) is not None:
            self._custody.init = init_of(line, monitor.pid)
            self._custody.hold_mounts()
            self._tell(Now.INIT_LOST if self._custody.init is None else Now.INIT_FOUND)
        for code in self._telling.exit_codes():
            self._tell(moments.ExitTold(code))

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
            self._reactor.ignore(self._prepared.channel.fileno())

    def _hear(self, data: bytes) -> None:
        self._tell(moments.Said(data))
        if self._course.started and self._started is None:
            self._started = time.monotonic()

    def _on_output(self, capture: Capture) -> None:
        capture.read()
        if self._budget.exceeded:
            self._tell(Now.OVER_CAP)
        if capture.ended or self._budget.exceeded:
            self._reactor.ignore(capture.descriptor)

    def _on_monitor_gone(self) -> None:
        self._reactor.ignore(self._monitor.pidfd)
        # It may have told how the script ended, just before.
        self._on_info()
        self._tell(Now.MONITOR_GONE)

    def _on_init_gone(self) -> None:
        """A pidfd of a namespace's init becomes readable when every process of the namespace has been reaped."""
        self._reactor.ignore(self._init)
        self._tell(Now.INIT_GONE)

    # What is done

    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case moments.SetTimer(timer, seconds):
                    self._reactor.set(timer, seconds, partial(self._tell, moments.Fired(timer)))
                case moments.Finish(end):
                    self._finish(end)
                case Do.START:
                    self._custody.begin_count()
                    self._prepared.start(self._hand)
                case Do.LINK:
                    plan, tell = self._prepared.plan, self._reactor.guarded(self._tell)
                    assert plan.egress is not None
                    self._link = Link(plan.egress, self._monitor.pid, self._prepared.owner, tell)
                case Do.FILL:
                    filled = STATES.submit(self._fill)
                    self._reactor.then(filled, lambda failure: self._tell(moments.Filled(failure)))
                case Do.LOOK:
                    self._reactor.then(LOOKS.submit(self._custody.look), self._tell)
                case Do.KILL_INIT:
                    kill(self._init)
                case Do.KILL_ALL:
                    killing = KILLS.submit(self._custody.kill_all)
                    self._reactor.then(killing, lambda left: self._tell(moments.Killed(left)))
                case Do.KILL_MONITOR:
                    kill(self._monitor.pidfd)
                case Do.WATCH_INIT:
                    self._reactor.read(self._init, self._on_init_gone)
                case Do.WATCH_MONITOR:
                    self._reactor.read(self._monitor.pidfd, self._on_monitor_gone)
                case Do.DRAIN:
                    self._drain()

    @property
    def _monitor(self) -> Started:
        assert self._custody.monitor is not None, "the course asks for nothing of what it was not told of"
        return self._custody.monitor

    @property
    def _init(self) -> int:
        assert self._custody.init is not None, "the course asks for nothing of what it was not told of"
        return self._custody.init

    def _fill(self) -> str | None:
        """On a thread: put its state into its directory; why that cannot be done."""
        try:
            init = self._custody.init
            self._state = self._prepared.state(None if init is None else pid_of(init))
            self._state.fill(self._found)
        except StateError as error:
            return f"its state cannot be put into it: {error}"
        return None

    async def gather(self, end: End) -> None:
        """Take out what it has left in its state directory, if it has ended by itself."""
        ended_itself = end.started and end.stopped is None and not is_of_a_signal(end.exit_code)
        if self._state is not None and ended_itself and not end.left and not end.abandoned:
            self._gathered = await _uncancelled(asyncio.wrap_future(STATES.submit(self._state.gather)))

    def _drain(self) -> None:
        self._stdout.drain()
        self._stderr.drain()
        if self._budget.exceeded:
            self._tell(Now.OVER_CAP)
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while self._course.listens and (data := self._prepared.channel.recv(CHUNK)):
                self._hear(data)
        if self._custody.ran_out_of_memory():
            self._tell(Now.OUT_OF_MEMORY)
        self._tell(Now.DRAINED)

    def _finish(self, end: End) -> None:
        self._ended_at = time.monotonic()
        self._explanation = self._prepared.explanation()
        self._custody.end_count()
        if end.left:
            _log.error("processes of a run are still alive after they were killed: %s", end.left)
        self._reactor.end(end)

    # How it is told

    def outcome(self, end: End) -> Outcome:
        """The run's outcome. Raises LaunchFailed if it never was seen to start."""
        if self._started is None:
            failure = end.failure or self._explained(end)
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
            cpu_s=self._custody.cpu_s,
            failure=end.failure,
            left=end.left,
            state=self._gathered,
            tried=self._tried,
        )

    def _explained(self, end: End) -> str:
        """What the wrapper said when it failed, behind a reason that names what is wrong, if that is found."""
        said = " ".join(self._stderr.text().split()) or self._explanation
        said = said or f"it ended with status {end.exit_code}"
        plan = self._prepared.plan
        reason = None if plan.packages is None else unreachable(plan.packages, *self._prepared.identity)
        return said if reason is None else f"the package tree: {reason} ({said})"

    # How it is left

    def let_go(self) -> None:
        """Hear nothing any more."""
        self._reactor.let_go()

    @property
    def is_held_up(self) -> bool:
        """Whether there is something to wait for before it can be closed. Most runs have nothing."""
        slow = (self._link, self._relay, self._custody.group, self._prepared.plain)
        return self._reactor.has_failed or self._reactor.is_busy or any(one is not None for one in slow)

    async def clear(self) -> None:
        """Wait for what still goes on, and take away what takes its time."""
        if self._link is not None:
            self._link_ended = await self._link.close()
        if self._relay is not None:
            self._tried, self._link_ended = await asyncio.wrap_future(RELAYS.submit(self._relay.finish))
        await self._reactor.settled()
        if self._reactor.has_failed and self._custody.can_be_killed:
            # A fault of our own: nobody has ended it yet.
            await asyncio.wrap_future(KILLS.submit(self._custody.kill_all))
        if self._custody.group is not None:
            await asyncio.wrap_future(REMOVALS.submit(self._custody.group.close))
        if self._prepared.plain is not None and not self._is_abandoned:
            await asyncio.wrap_future(REMOVALS.submit(self._prepared.close))

    @property
    def _is_abandoned(self) -> bool:
        return not self._reactor.has_failed and self._reactor.ended.result().abandoned

    def give_back(self) -> None:
        """Leave nothing that the next run, or somebody else, could find."""
        if not self._is_abandoned:
            self._prepared.give_back()

    def close(self) -> None:
        """Close all that is ours. Whatever still lives is killed."""
        self._custody.close()
        if self._state is not None:
            self._state.close()
        if self._is_abandoned:
            discard(self._prepared)
        else:
            self._prepared.close()


async def _uncancelled(work: Awaitable[T]) -> T:
    """Have it done to its end, and be cancelled only then."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    result = task.result()
    if cancelled:
        raise asyncio.CancelledError
    return result
