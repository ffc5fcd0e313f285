"""The course of one run: what is to be done about each thing that happens to it, until it has ended.

Decided here, without a system call, a clock or a thread; `supervise` tells what happens and does what is asked for.
What happens may come in any order, twice, or too late: a run starts once at most and never after it was stopped, it is
stopped once at most, and it ends when its processes are gone, or when they could not be killed in time. Every end has
a name: the script's own exit code, a `Stop`, or the reason why it never started.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from ringfence.sandbox.launch.supervision.moments import (
    Action,
    Bounds,
    Do,
    End,
    Event,
    ExitTold,
    Filled,
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
from ringfence.sandbox.limits.counting.tree import (
    LONGEST_INTERVAL_S,
    MOST_IN_NETWORK,
    MOST_LOCKS,
    Use,
    next_look,
)
from ringfence.sandbox.policy import Resources

PREPARE_TIMEOUT_S = 30.0
"""How long a sandbox may take to be made. Not part of the script's time."""

STUCK_TIMEOUT_S = 5.0
"""How long a wrapper that is to be stopped may take to tell of its init before it is killed itself, and then to die."""

RESIST_S = 0.1
"""How long the init of a run that has ended may take to be gone before everything in the run is killed one by one."""

OUT_OF_SIGHT_S = 3.0
"""How long a run whose init was seen to end may take to tell how it ended. Nearly always it is over in a moment; but
its processes have the lowest claims, and on a busy machine the one that tells may wait for its turn."""

BYTES_PER_FILE = 4096
"""The kernel keeps about 1 KiB per empty file outside of the tmpfs's size: so many as fit at this size are allowed."""

KILLED = -9
"""The exit code of a run that the supervisor killed."""

READY = b"ready\n"
"""What a sandbox with a state directory says first: its room is there, and only the bootstrap is in it."""

STARTED = b"started\n"
"""What the bootstrap says on the channel when it hands over to the script; the value follows."""


class _Process(enum.IntEnum):
    """What is known of a process. It only ever goes on from one to the next."""

    UNKNOWN, THERE, GONE = range(3)


class Course:
    """One run, from the sandbox that is being made or waits, to its end."""

    def __init__(
        self,
        bounds: Bounds,
        limits: Resources,
        *,
        plain: bool = False,
        enters: bool = False,
        linked: bool = False,
        keeps: bool = False,
    ) -> None:
        """Begin.

        Args:
            bounds: what is held here by waiting and counting.
            limits: what is held by looking.
            plain: it has no namespace, so no init whose end is everybody's, and nothing to look at.
            enters: it has to be in its cgroup before it may start.
            linked: it has to have its link before it may start.
            keeps: it has to have its state before it may start.
        """
        self._bounds = bounds
        self._limits = limits
        self._plain = plain
        self._entering = enters
        self._linking = linked
        self._asked_for_link = False
        self._filling = keeps
        self._ready = self._asked_to_fill = False
        self._monitor = self._init = _Process.UNKNOWN
        self._handed_over = self._begun = False
        self._said = bytearray()
        self._said_too_much = False
        self._exit_code: int | None = None
        self._failure: str | None = None
        self._killing = self._emptied = self._drained = False
        self._done: set[Do] = set()
        self._left: tuple[int, ...] = ()
        self.started = False
        self.stopped: Stop | None = None
        self.end: End | None = None

    def begin(self) -> tuple[Action, ...]:
        """What is to be done first."""
        return (SetTimer(Timer.PREPARE, PREPARE_TIMEOUT_S),)

    def hear(self, event: Event) -> tuple[Action, ...]:
        """What is to be done about something that happened. Never raises; nothing after `Finish`."""
        if self.end is not None:
            return ()
        return tuple(self._heard(event))

    def _heard(self, event: Event) -> Iterator[Action]:
        match event:
            case Now():
                yield from self._happened(event)
            case Said(data):
                yield from self._hear_out(data)
            case Looked(use):
                yield from self._judge(use)
            case LookFailed(reason):
                yield from self._stop(Stop.UNWATCHED, f"what it uses could not be seen: {reason}")
            case Fired(timer):
                yield from self._fired(timer)
            case ExitTold(code):
                yield from self._exited(code)
            case Killed(left):
                yield from self._killed(left)
            case NotSpawned(reason):
                self._failure = self._failure or reason
                yield from self._exited(KILLED)
            case Joined(failure):
                self._entering = False
                yield from self._go() if failure is None else self._stop(Stop.NEVER_STARTED, failure)
            case Filled(failure):
                self._filling = False
                yield from self._go() if failure is None else self._stop(Stop.NEVER_STARTED, failure)
            case NotLinked(reason):
                yield from self._stop(Stop.NEVER_STARTED, reason)

    def _happened(self, event: Now) -> Iterator[Action]:
        match event:
            case Now.SPAWNED:
                self._monitor = max(self._monitor, _Process.THERE)
                if self._plain and self._is_ending:
                    yield from self._kill_all()
                yield from self._go()
            case Now.INIT_FOUND if self._init is _Process.UNKNOWN:
                self._init = _Process.THERE
                yield from self._kill_all() if self._is_ending else self._go()
            case Now.INIT_LOST if self._init is _Process.UNKNOWN:
                self._init = _Process.GONE
            case Now.INIT_GONE if self._init is _Process.THERE:
                self._init = _Process.GONE
                yield from self._empty()
            case Now.MONITOR_GONE:
                yield from self._monitor_is_gone()
            case Now.LINKED:
                self._linking = False
                yield from self._go()
            case Now.OVER_CAP:
                yield from self._stop(Stop.OUTPUT)
            case Now.DRAINED:
                self._drained = True
                yield from self._end_if_over()
            case Now.OUT_OF_MEMORY:
                self._name(Stop.MEMORY)
            case Now.SAW_NOTHING if not self._is_ending:
                # Either its end is about to be told, or its init is kept from ending.
                yield from self._once(Do.WATCH_INIT)
                yield SetTimer(Timer.RESIST, OUT_OF_SIGHT_S)
            case Now.CANCELLED:
                yield from self._stop(Stop.CANCELLED)

    @property
    def listens(self) -> bool:
        """Whether more on the channel would make a difference: what is too large is not read to its end."""
        return not self._said_too_much

    # How it starts

    def _go(self) -> Iterator[Action]:
        # What is not known yet could not be ended.
        if self._handed_over or self._entering or self._is_ending or self._monitor is not _Process.THERE:
            return
        there = self._init is _Process.THERE
        if self._linking:
            if there and not self._asked_for_link:
                # The wrapper tells of its init when it runs, and it runs only behind its filter.
                self._asked_for_link = True
                yield Do.LINK
        elif self._filling:
            if self._ready and (there or self._plain) and not self._asked_to_fill:
                self._asked_to_fill = True
                yield Do.FILL
        else:
            self._handed_over = True
            yield Do.START

    def _hear_out(self, data: bytes) -> Iterator[Action]:
        first = len(STARTED) if self._ready or not self._filling else len(READY) + len(STARTED)
        room = first + self._bounds.value_bytes - len(self._said)
        self._said += data[:room]
        if self._filling and not self._ready and self._said.startswith(READY):
            self._ready = True
            del self._said[: len(READY)]
            yield from self._go()
        if not self._begun and self._said.startswith(STARTED):
            self._begun = True
            # What was given up on before is too late, though it may have run for a moment.
            self.started = self.stopped is not Stop.NEVER_STARTED
            if not self._is_ending:
                yield SetTimer(Timer.RUN, self._bounds.timeout_s)
                if not self._plain:
                    yield SetTimer(Timer.LOOK, next_look(0, self._limits.memory_bytes))
        if len(data) > room:
            self._said_too_much = True
            yield from self._stop(Stop.VALUE)

    # What is held

    def _judge(self, use: Use) -> Iterator[Action]:
        if self._is_ending:
            return
        too_much = use.memory > self._limits.memory_bytes or use.network > MOST_IN_NETWORK
        if too_much or use.locks > MOST_LOCKS:
            yield from self._stop(Stop.MEMORY)
        elif use.files > self._limits.max_scratch_bytes // BYTES_PER_FILE:
            yield from self._stop(Stop.FILES)
        else:
            yield SetTimer(Timer.LOOK, next_look(use.memory, self._limits.memory_bytes))

    def _fired(self, timer: Timer) -> Iterator[Action]:
        match timer:
            case Timer.PREPARE if not self._begun:
                late = f"the sandbox has not started within {PREPARE_TIMEOUT_S:.0f} s"
                yield from self._stop(Stop.NEVER_STARTED, late)
            case Timer.RUN:
                yield from self._stop(Stop.TIMEOUT)
            case Timer.LOOK if not self._is_ending:
                # Its init is told of on another descriptor than its start, so maybe later.
                there = self._init is not _Process.UNKNOWN
                yield Do.LOOK if there else SetTimer(Timer.LOOK, LONGEST_INTERVAL_S)
            case Timer.STUCK if self._init is not _Process.THERE and not self._killing:
                yield from self._give_up()
            case Timer.RESIST if self._init is _Process.THERE:
                if self._exit_code is None:
                    self._name(Stop.UNWATCHED, "what it uses could not be seen: its init is about to end")
                yield from self._kill_all()

    # How it ends

    @property
    def _is_ending(self) -> bool:
        return self.stopped is not None or self._exit_code is not None

    def _stop(self, why: Stop, failure: str | None = None) -> Iterator[Action]:
        if self._exit_code is not None:
            # It has ended by itself. But that what it left was too much to take is still to be said.
            if why in (Stop.OUTPUT, Stop.VALUE):
                self._name(why)
            return
        if self.stopped is not None:
            return
        self._name(why, failure)
        if self._init is _Process.THERE or (self._plain and self._monitor is _Process.THERE):
            yield from self._kill_all()
        else:
            # It is killed as soon as it is told of. If it never is, somebody is stuck.
            yield SetTimer(Timer.STUCK, STUCK_TIMEOUT_S)

    def _name(self, why: Stop, failure: str | None = None) -> None:
        if self.stopped is None:
            self.stopped = why
            self._failure = self._failure or failure

    def _give_up(self) -> Iterator[Action]:
        """Nothing is known that could be killed, but maybe the wrapper."""
        if self._monitor is _Process.THERE and Do.KILL_MONITOR not in self._done:
            yield from self._once(Do.KILL_MONITOR)
            yield from self._once(Do.WATCH_MONITOR)
            yield SetTimer(Timer.STUCK, STUCK_TIMEOUT_S)
        else:
            self._failure = self._failure or "what starts sandboxes does not answer"
            yield self._finish(abandoned=True)

    def _exited(self, code: int) -> Iterator[Action]:
        """The wrapper ends; it may leave its init with the script's children, which end now."""
        if self._exit_code is not None:
            return
        self._exit_code = code
        if self._plain:
            yield from self._kill_all()
            yield from self._end_if_over()
        elif self._init is not _Process.THERE:
            yield from self._empty()
        elif not self._killing:
            yield Do.KILL_INIT
            yield from self._once(Do.WATCH_INIT)
            yield SetTimer(Timer.RESIST, RESIST_S)

    def _kill_all(self) -> Iterator[Action]:
        if not self._killing:
            self._killing = True
            yield Do.KILL_ALL
            if not self._plain:
                yield from self._once(Do.WATCH_INIT)

    def _killed(self, left: tuple[int, ...]) -> Iterator[Action]:
        self._left, self._init = left, _Process.GONE
        yield from self._empty()

    def _monitor_is_gone(self) -> Iterator[Action]:
        self._monitor = _Process.GONE
        yield from self._exited(KILLED)
        yield from self._end_if_over()

    def _empty(self) -> Iterator[Action]:
        """Every process but the wrapper is gone, or cannot be killed."""
        if not self._emptied:
            self._emptied = True
            yield Do.DRAIN

    def _end_if_over(self) -> Iterator[Action]:
        if not self._drained or self.end is not None:
            return
        told_all = self._plain and self._exit_code is not None
        if self._left or told_all or self._monitor is not _Process.THERE:
            yield self._finish()
        else:
            # The wrapper has nothing left to do; with it, the last process of the run goes. If all had to be killed one
            # by one, it may be waiting for an init that takes its time.
            if self._killing and not self._plain:
                yield from self._once(Do.KILL_MONITOR)
            yield from self._once(Do.WATCH_MONITOR)

    def _once(self, what: Do) -> Iterator[Action]:
        if what not in self._done:
            self._done.add(what)
            yield what

    def _finish(self, *, abandoned: bool = False) -> Finish:
        stopped, told = self.stopped, self._exit_code
        value = bytes(self._said[len(STARTED) :]) if self.started and not self._said_too_much else b""
        if not self.started and stopped is not None and self._failure is None:
            self._failure = f"it was stopped before it had started ({stopped.value})"
        self.end = End(
            exit_code=told if stopped is None and told is not None else KILLED,
            stopped=stopped,
            started=self.started,
            begun=self._begun,
            failure=self._failure,
            value=value or None,
            value_too_large=self._said_too_much,
            left=self._left,
            abandoned=abandoned,
        )
        return Finish(self.end)
