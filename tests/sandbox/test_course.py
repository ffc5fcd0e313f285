"""What is decided about a run: every end that there is, and that no order of events leads anywhere else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.launch.supervision.course import (
    KILLED,
    OUT_OF_SIGHT_S,
    PREPARE_TIMEOUT_S,
    READY,
    RESIST_S,
    STARTED,
    STUCK_TIMEOUT_S,
    Course,
)
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
from ringfence.sandbox.limits.counting.tree import LONGEST_INTERVAL_S, MOST_LOCKS, Use
from ringfence.sandbox.policy import Resources

BOUNDS = Bounds(timeout_s=5.0, output_bytes=1000, value_bytes=100)
LIMITS = Resources(memory_bytes=64 * 1024**2, max_scratch_bytes=4096 * 100)
LITTLE = Use(memory=1, files=1, locks=0)

RUNNING: tuple[Event, ...] = (Now.SPAWNED, Now.INIT_FOUND, Said(STARTED))
GONE: tuple[Event, ...] = (Now.INIT_GONE, Now.DRAINED, Now.MONITOR_GONE)
PLAIN: tuple[Event, ...] = (Now.SPAWNED, Said(STARTED))


def told(course: Course, events: Iterable[Event]) -> list[Action]:
    """Everything that is asked for, from the beginning on."""
    asked = list(course.begin())
    for event in events:
        asked += course.hear(event)
    return asked


def outcome(end: End) -> object:
    """An end in a few words: its exit code, or its stop; of a run that never started, the reason."""
    if not end.started:
        return end.failure
    return end.stopped or end.exit_code


LATE = "the sandbox has not started within 30 s"

ENDS: dict[str, tuple[dict[str, bool], tuple[Event, ...], object]] = {
    # By itself
    "its own": ({}, (*RUNNING, ExitTold(3), *GONE), 3),
    "told twice": ({}, (*RUNNING, ExitTold(3), ExitTold(0), *GONE), 3),
    "before its start was read": (
        {},
        (*RUNNING[:2], ExitTold(3), Now.INIT_GONE, Said(STARTED), *GONE[1:]),
        3,
    ),
    "its init was gone before it was found": (
        {},
        (Now.SPAWNED, Now.INIT_LOST, ExitTold(3), Said(STARTED), *GONE[1:]),
        3,
    ),
    "its init resists": ({}, (*RUNNING, ExitTold(0), Fired(Timer.RESIST), Killed(), *GONE[1:]), 0),
    "the wrapper is killed by somebody": ({}, (*RUNNING, Now.MONITOR_GONE, *GONE[:2]), KILLED),
    "what starts sandboxes is killed": ({}, (*RUNNING, NotSpawned("it is gone"), *GONE), KILLED),
    "the timeout comes after the end": ({}, (*RUNNING, ExitTold(0), Fired(Timer.RUN), *GONE), 0),
    "a look comes after the end": (
        {},
        (*RUNNING, ExitTold(0), Looked(Use(2**40, 0, 0)), LookFailed("late"), *GONE),
        0,
    ),
    "a plain run's own": ({"plain": True}, (*PLAIN, ExitTold(3), Killed(), Now.DRAINED), 3),
    # Stopped
    "the wall clock": ({}, (*RUNNING, Fired(Timer.RUN), *GONE), Stop.TIMEOUT),
    "output": ({}, (*RUNNING, Now.OVER_CAP, *GONE), Stop.OUTPUT),
    "output that is read before its start": (
        {},
        (*RUNNING[:2], Now.OVER_CAP, Said(STARTED), *GONE),
        Stop.OUTPUT,
    ),
    "output that is read after its end": (
        {},
        (*RUNNING, ExitTold(0), Now.INIT_GONE, Now.OVER_CAP, *GONE[1:]),
        Stop.OUTPUT,
    ),
    "a value": ({}, (*RUNNING, Said(b"x" * 101), *GONE), Stop.VALUE),
    "a value in pieces": ({}, (*RUNNING, *[Said(b"x" * 60)] * 2, *GONE), Stop.VALUE),
    "a value that is read after its end": (
        {},
        (*RUNNING, ExitTold(0), Now.INIT_GONE, Said(b"x" * 101), *GONE[1:]),
        Stop.VALUE,
    ),
    "memory": ({}, (*RUNNING, Looked(Use(LIMITS.memory_bytes + 1, 0, 0)), *GONE), Stop.MEMORY),
    "locks": ({}, (*RUNNING, Looked(Use(0, 0, MOST_LOCKS + 1)), *GONE), Stop.MEMORY),
    "memory, by the kernel": (
        {},
        (*RUNNING, ExitTold(137), Now.INIT_GONE, Now.OUT_OF_MEMORY, *GONE[1:]),
        Stop.MEMORY,
    ),
    "files": ({}, (*RUNNING, Looked(Use(0, 101, 0)), *GONE), Stop.FILES),
    "a failed look": ({}, (*RUNNING, LookFailed("EMFILE"), *GONE), Stop.UNWATCHED),
    "a look that sees nothing while it goes on": (
        {},
        (*RUNNING, Now.SAW_NOTHING, Fired(Timer.RESIST), *GONE),
        Stop.UNWATCHED,
    ),
    "a look that sees nothing, since it ends": ({}, (*RUNNING, Now.SAW_NOTHING, ExitTold(3), *GONE), 3),
    "cancelled": ({}, (*RUNNING, Now.CANCELLED, *GONE), Stop.CANCELLED),
    "the first of two reasons": ({}, (*RUNNING, Fired(Timer.RUN), Now.OVER_CAP, *GONE), Stop.TIMEOUT),
    "a process that cannot be killed": (
        {},
        (*RUNNING, Fired(Timer.RUN), Killed((77,)), Now.DRAINED),
        Stop.TIMEOUT,
    ),
    "a plain run's wall clock": (
        {"plain": True},
        (*PLAIN, Fired(Timer.RUN), Killed(), Now.DRAINED, Now.MONITOR_GONE),
        Stop.TIMEOUT,
    ),
    "a plain run's wall clock, the end told": (
        {"plain": True},
        (*PLAIN, Fired(Timer.RUN), Killed(), Now.DRAINED, ExitTold(-9)),
        Stop.TIMEOUT,
    ),
    # Never started
    "it cannot be spawned": ({}, (NotSpawned("no such file"), Now.DRAINED), "no such file"),
    "it cannot be spawned plainly": (
        {"plain": True},
        (NotSpawned("no such file"), Killed(), Now.DRAINED),
        "no such file",
    ),
    "the wrapper fails": ({}, (Now.SPAWNED, ExitTold(1), Now.DRAINED, Now.MONITOR_GONE), None),
    "it cannot join its cgroup": (
        {"enters": True},
        (Now.SPAWNED, Now.INIT_FOUND, Joined("no such cgroup"), *GONE),
        "no such cgroup",
    ),
    "it cannot get its link": (
        {"linked": True},
        (Now.SPAWNED, Now.INIT_FOUND, NotLinked("no tun"), *GONE),
        "no tun",
    ),
    "it takes too long": ({}, (*RUNNING[:2], Fired(Timer.PREPARE), *GONE), LATE),
    "it starts too late": ({}, (*RUNNING[:2], Fired(Timer.PREPARE), Said(STARTED), *GONE), LATE),
    "it starts too late, and too much": (
        {},
        (*RUNNING[:2], Fired(Timer.PREPARE), Said(STARTED + b"x" * 101), *GONE),
        LATE,
    ),
    "the wrapper never tells of its init": (
        {},
        (Now.SPAWNED, Fired(Timer.PREPARE), Fired(Timer.STUCK), Now.MONITOR_GONE, Now.DRAINED),
        LATE,
    ),
    "the wrapper cannot even be killed": (
        {},
        (Now.SPAWNED, Fired(Timer.PREPARE), Fired(Timer.STUCK), Fired(Timer.STUCK)),
        LATE,
    ),
    "what starts sandboxes does not answer": ({}, (Fired(Timer.PREPARE), Fired(Timer.STUCK)), LATE),
    "cancelled before": (
        {},
        (*RUNNING[:2], Now.CANCELLED, *GONE),
        "it was stopped before it had started (cancelled)",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_end_has_a_name(name: str) -> None:
    kind, events, expected = ENDS[name]
    course = Course(BOUNDS, LIMITS, **kind)
    asked = told(course, events)
    assert course.end is not None
    assert outcome(course.end) == expected
    assert asked[-1] == Finish(course.end)


def test_a_value_comes_with_the_end() -> None:
    course = Course(BOUNDS, LIMITS)
    told(course, (*RUNNING, Said(b"12"), Said(b"3"), ExitTold(0), *GONE))
    assert course.end is not None
    assert (course.end.value, course.end.value_too_large) == (b"123", False)


def test_what_may_have_run_is_not_run_again() -> None:
    """A sandbox that waited is replaced if it fails; but not if the script may have begun in it."""
    late = Course(BOUNDS, LIMITS)
    told(late, (*RUNNING[:2], Fired(Timer.PREPARE), Said(STARTED), *GONE))
    never = Course(BOUNDS, LIMITS)
    told(never, (*RUNNING[:2], Fired(Timer.PREPARE), *GONE))
    assert late.end is not None
    assert never.end is not None
    assert (late.end.begun, never.end.begun) == (True, False)


def test_a_spawner_that_does_not_answer_leaves_a_sandbox_to_be_ended_later() -> None:
    course = Course(BOUNDS, LIMITS)
    told(course, (Fired(Timer.PREPARE), Fired(Timer.STUCK)))
    assert course.end is not None
    assert course.end.abandoned
    assert course.hear(Now.SPAWNED) == ()


def test_a_run_starts_when_it_has_all_that_it_needs() -> None:
    course = Course(BOUNDS, LIMITS, enters=True, linked=True)
    assert course.begin() == (SetTimer(Timer.PREPARE, PREPARE_TIMEOUT_S),)
    assert course.hear(Now.SPAWNED) == ()
    assert course.hear(Now.INIT_FOUND) == ()
    assert course.hear(Joined()) == (Do.LINK,)
    assert course.hear(Now.LINKED) == (Do.START,)


def test_nothing_is_started_that_could_not_be_ended() -> None:
    course = Course(BOUNDS, LIMITS)
    assert Do.START not in course.begin()
    assert course.hear(Now.SPAWNED) == (Do.START,)


def test_the_clocks_of_a_script_begin_when_it_starts() -> None:
    course = Course(BOUNDS, LIMITS)
    asked = told(course, RUNNING)
    assert SetTimer(Timer.RUN, BOUNDS.timeout_s) in asked
    assert [action.timer for action in asked if isinstance(action, SetTimer)][-1] is Timer.LOOK


def test_it_is_looked_at_again_and_again() -> None:
    course = Course(BOUNDS, LIMITS)
    told(course, RUNNING)
    for _ in range(3):
        assert course.hear(Fired(Timer.LOOK)) == (Do.LOOK,)
        [again] = course.hear(Looked(LITTLE))
        assert isinstance(again, SetTimer)
        assert again.timer is Timer.LOOK


def test_it_is_looked_at_even_if_its_init_is_told_of_late() -> None:
    course = Course(BOUNDS, LIMITS)
    told(course, (Now.SPAWNED, Said(STARTED)))
    assert course.hear(Fired(Timer.LOOK)) == (SetTimer(Timer.LOOK, LONGEST_INTERVAL_S),)
    course.hear(Now.INIT_FOUND)
    assert course.hear(Fired(Timer.LOOK)) == (Do.LOOK,)


def test_a_stop_kills_everything_and_not_only_its_init() -> None:
    course = Course(BOUNDS, LIMITS)
    told(course, RUNNING)
    assert course.hear(Fired(Timer.RUN)) == (Do.KILL_ALL, Do.WATCH_INIT)


def test_a_stop_before_anything_is_known_kills_as_soon_as_it_is() -> None:
    course = Course(BOUNDS, LIMITS)
    told(course, (Now.SPAWNED,))
    assert course.hear(Now.CANCELLED) == (SetTimer(Timer.STUCK, STUCK_TIMEOUT_S),)
    assert course.hear(Now.INIT_FOUND) == (Do.KILL_ALL, Do.WATCH_INIT)
    plain = Course(BOUNDS, LIMITS, plain=True)
    told(plain, (Now.CANCELLED,))
    assert plain.hear(Now.SPAWNED) == (Do.KILL_ALL,)


def test_a_run_whose_init_was_seen_to_end_has_time_to_tell_how() -> None:
    course = Course(BOUNDS, LIMITS)
    for event in RUNNING:
        course.hear(event)
    [timer] = [one for one in course.hear(Now.SAW_NOTHING) if isinstance(one, SetTimer)]
    assert timer == SetTimer(Timer.RESIST, OUT_OF_SIGHT_S)
    assert OUT_OF_SIGHT_S > 10 * RESIST_S
    course.hear(ExitTold(3))
    assert course.stopped is None


def test_an_ordinary_end_needs_no_thread() -> None:
    course = Course(BOUNDS, LIMITS)
    told(course, RUNNING)
    assert course.hear(ExitTold(0)) == (Do.KILL_INIT, Do.WATCH_INIT, SetTimer(Timer.RESIST, RESIST_S))


def test_what_is_too_large_is_not_listened_to_any_more() -> None:
    course = Course(BOUNDS, LIMITS)
    told(course, (*RUNNING, Said(b"x" * 100)))
    assert course.listens
    course.hear(Said(b"x"))
    assert not course.listens


EVENTS = st.one_of(
    st.sampled_from(Now),
    st.sampled_from(Timer).map(Fired),
    st.sampled_from([b"sta", b"rted\n", STARTED, b"x", b"x" * 200]).map(Said),
    st.sampled_from([LITTLE, Use(2**40, 0, 0), Use(0, 10**6, 0), Use(0, 0, 10**6)]).map(Looked),
    st.sampled_from([(), (7,)]).map(Killed),
    st.integers(-9, 255).map(ExitTold),
    st.sampled_from([NotSpawned("s"), NotLinked("l"), LookFailed("f"), Joined(), Joined("j")]),
)
KINDS = st.fixed_dictionaries({name: st.booleans() for name in ("plain", "enters", "linked")})


@given(kind=KINDS, events=st.lists(EVENTS, max_size=40))
def test_any_order_of_events_ends_when_everything_is_gone(kind: dict[str, bool], events: list[Event]) -> None:
    course = Course(BOUNDS, LIMITS, **kind)
    asked = told(course, events)
    was_over = course.end is not None
    last = [
        action
        for event in (ExitTold(0), Killed(), Now.INIT_GONE, Now.MONITOR_GONE, Now.DRAINED, Fired(Timer.STUCK))
        for action in course.hear(event)
    ]
    assert course.end is not None
    finishes = [action for action in (*asked, *last) if isinstance(action, Finish)]
    assert finishes == [Finish(course.end)]
    assert not was_over or not last


@given(kind=KINDS, events=st.lists(EVENTS, max_size=40))
def test_no_order_of_events_starts_twice_or_after_a_stop_or_stops_twice(
    kind: dict[str, bool], events: list[Event]
) -> None:
    course = Course(BOUNDS, LIMITS, **kind)
    starts, kills, names = list(course.begin()).count(Do.START), 0, set()
    for event in events:
        before = course.stopped
        actions = course.hear(event)
        starts += actions.count(Do.START)
        kills += actions.count(Do.KILL_ALL)
        assert before is None or Do.START not in actions
        assert course.end is None or actions == () or isinstance(actions[-1], Finish)
        names.add(course.stopped)
    assert starts <= 1
    assert kills <= 1
    assert len(names - {None}) <= 1


class World:
    """A host that does what is asked for, in any order and as late as it likes."""

    def __init__(self, data: st.DataObject, kind: dict[str, bool]) -> None:
        self._draw = data.draw
        self.course = Course(BOUNDS, LIMITS, **kind)
        self.due: list[Event] = [
            Now.SPAWNED,
            Said(STARTED),
            *([] if kind["plain"] else [Now.INIT_FOUND]),
            *([Joined()] if kind["enters"] else []),
        ]
        self._do(self.course.begin())

    def step(self) -> None:
        """One of the things that are due happens."""
        event = self.due.pop(self._draw(st.integers(0, len(self.due) - 1)))
        self._do(self.course.hear(event))

    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case SetTimer(timer):
                    self.due.append(Fired(timer))
                case Do.LOOK:
                    self.due.append(Looked(LITTLE))
                case Do.LINK:
                    self.due.append(Now.LINKED)
                case Do.KILL_ALL:
                    self.due.append(Killed())
                case Do.WATCH_INIT:
                    self.due.append(Now.INIT_GONE)
                case Do.WATCH_MONITOR:
                    self.due.append(Now.MONITOR_GONE)
                case Do.DRAIN:
                    self._do(self.course.hear(Now.DRAINED))


@given(kind=KINDS, data=st.data())
def test_whatever_comes_first_every_run_ends(kind: dict[str, bool], data: st.DataObject) -> None:
    world = World(data, kind)
    for _ in range(200):
        if world.course.end is not None:
            break
        # The run's time is over at some point, as everything else.
        world.step()
    assert world.course.end is not None, world.due


def keeping(**how: bool) -> Course:
    return Course(BOUNDS, LIMITS, keeps=True, **how)


@pytest.mark.parametrize(
    "events",
    [
        (Now.SPAWNED, Now.INIT_FOUND, Said(READY)),
        (Now.SPAWNED, Said(READY), Now.INIT_FOUND),
        (Said(READY), Now.INIT_FOUND, Now.SPAWNED),
        (Now.SPAWNED, Now.INIT_FOUND, Said(READY[:3]), Said(READY[3:])),
    ],
)
def test_a_state_is_put_into_a_room_that_is_there_and_then_the_script_starts(
    events: tuple[Event, ...],
) -> None:
    course = keeping()
    asked = told(course, events)
    assert asked.count(Do.FILL) == 1
    assert Do.START not in asked
    assert course.hear(Filled()) == (Do.START,)
    course.hear(Said(STARTED + b"value"))
    told(course, (ExitTold(0), *GONE))
    assert course.end is not None
    assert (course.end.started, course.end.value) == (True, b"value")


def test_a_room_that_never_says_it_is_there_never_gets_its_state() -> None:
    course = keeping()
    assert not {Do.FILL, Do.START} & set(told(course, (Now.SPAWNED, Now.INIT_FOUND)))


def test_a_plain_run_has_its_state_without_an_init() -> None:
    assert Do.FILL in told(keeping(plain=True), (Now.SPAWNED, Said(READY)))


def test_a_run_that_cannot_have_its_state_never_starts() -> None:
    course = keeping()
    asked = told(course, (Now.SPAWNED, Now.INIT_FOUND, Said(READY), Filled("no room"), Killed(), *GONE))
    assert Do.START not in asked
    assert course.end is not None
    assert (course.end.started, course.end.failure) == (False, "no room")


def test_a_run_that_is_cancelled_while_it_gets_its_state_never_starts() -> None:
    course = keeping()
    assert Do.START not in told(
        course, (Now.SPAWNED, Now.INIT_FOUND, Said(READY), Now.CANCELLED, Filled(), Killed(), *GONE)
    )
