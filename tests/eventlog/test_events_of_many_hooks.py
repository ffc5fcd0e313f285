"""One worker group over the events of many hooks, in the log's order. Those that nobody wants cost next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, computed_field
from ringfence import AnyEvent, Event, Hook, Mode, PluginContext, Registry, backoff, hookimpl
from ringfence.eventlog import tail
from ringfence.eventlog.groups import consume, membership, workers
from ringfence.eventlog.groups.consume import Consumer, Outcome
from ringfence.eventlog.groups.next_event import Heard, ManyHooks
from ringfence.eventlog.history.trail import Mark
from ringfence.hooks import EventsGroup, HookDirectory, HookError
from ringfence.host import Host
from ringfence.testing import Record, RunHost, Subscription, TestPostgres
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, Probe, emit, mentioned, noted, query, treasured, whispered
from tests.eventlog.test_retention import trim
from tests.restoring import restorable, until_reached
from tests.waiting import until, until_it

Logged = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)


def everything(_: str) -> bool:
    return True


class Reader(Probe):
    """Writes down each event that its group gets, in the transaction in which the group moves on."""

    def __init__(
        self,
        wanted: Callable[[str], bool] = everything,
        *,
        ready: Callable[[PluginContext], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(self._listen)
        self._wanted, self._more = wanted, ready
        self.events: list[AnyEvent] = []
        self.failing: set[int] = set()

    async def _listen(self, context: PluginContext) -> None:
        async with context.sessions.begin() as session:
            await session.execute(text("SELECT pg_advisory_xact_lock(1)"))
            await session.execute(
                text("CREATE TABLE IF NOT EXISTS read (id bigint GENERATED ALWAYS AS IDENTITY, n int)")
            )
        context.on_events(self._read, worker_group="reader", wanted=self._wanted, max_retries=1)
        if self._more is not None:
            await self._more(context)

    async def _read(self, event: AnyEvent, session: AsyncSession) -> None:
        await session.execute(text("INSERT INTO read (n) VALUES (:n)"), {"n": event.payload["n"]})
        self.events.append(event)
        if event.payload["n"] in self.failing:
            raise ValueError("no luck")


async def read(host: Host, *numbers: int) -> None:
    """Wait until just these were read, in this order."""

    async def are_there() -> bool:
        return [n for (n,) in await query(host, "SELECT n FROM read ORDER BY id")] == [*numbers]

    await until_it(are_there, f"{numbers} are read")


def transactions(host: Host) -> list[object]:
    """Grows with each transaction that a worker group of the host begins from now on."""
    begun: list[object] = []
    sqlalchemy_event.listen(host.database.work_sessions.kw["bind"].sync_engine, "begin", begun.append)
    return begun


async def test_one_instance_of_the_fleet_reads_the_events_of_all_hooks_in_the_logs_order(
    run_host: RunHost,
) -> None:
    readers = [Reader() for _ in range(3)]
    hosts = [await run_host(plugins=[reader]) for reader in readers]
    for n, hook in enumerate((noted, mentioned, treasured, mentioned, noted)):
        await emit(readers[n % 3].context, n, hook=hook, actor="somebody")
    await read(hosts[0], 0, 1, 2, 3, 4)
    found = sorted((event for reader in readers for event in reader.events), key=lambda one: one.position)
    assert [event.hook for event in found] == ["noted", "mentioned", "treasured", "mentioned", "noted"]
    third = found[2]
    assert (third.plugin, third.stream, third.version, third.actor) == ("probe", "treasury", 1, "somebody")
    assert third.payload == {"n": 2, "secret": ""}


async def test_what_fails_is_tried_again_set_aside_and_replayed_as_in_any_group(run_host: RunHost) -> None:
    reader = Reader()
    reader.failing = {2}
    host = await run_host(plugins=[reader])
    await emit(reader.context, 1)
    await emit(reader.context, 2, hook=mentioned)
    await emit(reader.context, 3)
    await read(host, 1, 3)
    [(group, attempts, error)] = await query(host, "SELECT worker_group, attempts, error FROM failed_events")
    assert (group, attempts, error) == ("reader", 2, "ValueError: no luck")
    reader.failing.clear()
    await query(host, "UPDATE failed_events SET replay = true")
    await read(host, 1, 3, 2)


async def test_events_that_nobody_wants_are_passed_over_many_at_a_time(run_host: RunHost) -> None:
    reader = Reader(lambda hook: hook == "mentioned")
    host = await run_host(plugins=[reader])
    await emit(reader.context, 1, hook=mentioned)
    await read(host, 1)
    steps = transactions(host)
    facts = [("probe.noted", Noted(n=n)) for n in range(1000)]
    for _ in range(10):
        await reader.context.emit_hooks(noted, facts, standalone=True)
    [last] = await emit(reader.context, 2, hook=mentioned)
    await read(host, 1, 2)
    # About one each second, as for a group that is idle, and those for the one that is wanted.
    assert len(steps) < 100
    assert [event.position for event in reader.events][1:] == [last.position]


async def test_a_group_moves_past_what_it_does_not_want_so_that_it_can_be_trimmed(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "SKIP_EVENTS", 3)
    reader = Reader(lambda hook: hook == "mentioned")
    host = await run_host(plugins=[reader])
    facts = [("probe.noted", Noted(n=n)) for n in range(4)]
    await reader.context.emit_hooks(noted, facts, standalone=True)

    async def is_past() -> bool:
        return await query(host, "SELECT position FROM event_cursors") == await query(
            host, "SELECT max(position) FROM events"
        )

    await until_it(is_past, "the cursor is past them")
    assert await trim(host) == 3, "but for the newest of the stream"


async def test_an_event_is_not_passed_over_before_the_plugin_has_heard_what_makes_it_want_that(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when its broadcast listener is slow, and others have been told meanwhile."""
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.02)
    known: set[str] = {"treasured"}
    hold, held = asyncio.Event(), asyncio.Event()

    async def learn(event: Event[Noted]) -> None:
        if event.payload.n == 0:
            held.set()
            await hold.wait()
            known.add("mentioned")

    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, learn)

    reader = Reader(lambda hook: hook in known, ready=ready)
    host = await run_host(plugins=[reader])
    await emit(reader.context, 0)
    await held.wait()
    await emit(reader.context, 1, hook=mentioned)
    [last] = await emit(reader.context, 2, hook=treasured)
    # The others do not wait any longer for this plugin.
    await until(lambda: host.runtime.tailer.cursor >= last.position)
    steps = transactions(host)
    await until(lambda: len(steps) > 5)
    assert await query(host, "SELECT n FROM read") == []
    hold.set()
    await read(host, 1, 2)


async def test_nothing_is_passed_over_in_a_history_that_this_instance_has_not_heard(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restore, until the tailer has noticed that: what it has read last is not in the log any more."""
    monkeypatch.setattr(consume, "SKIP_EVENTS", 1)
    probe = Probe()
    host = await run_host(plugins=[probe])
    [event] = await emit(probe.context, 1)
    await query(
        host,
        "INSERT INTO event_cursors (plugin, worker_group, position, served_at) VALUES ('probe', 'here', 0, now())",
    )
    here = host.runtime.tailer

    async def ignore(event: AnyEvent, session: AsyncSession) -> None: ...

    async def stepped(head: Mark | None) -> int:
        group = EventsGroup("probe", "here", lambda _: False, ignore)
        reading = ManyHooks(group, lambda _: Heard(event.position, head), HookDirectory())
        consumer = Consumer(host.database.work_sessions, group, instance=uuid4(), reading=reading)
        assert await consumer.step() is Outcome.IDLE
        [(position,)] = await query(host, "SELECT position FROM event_cursors")
        return int(position)

    assert await stepped(None) == 0
    assert await stepped(Mark(event.position, b"another")) == 0
    await here.wait_for(event.position)
    assert await stepped(here.head) == event.position


async def test_a_group_that_cannot_say_what_it_wants_gets_all(run_host: RunHost, logged: Logged) -> None:
    def broken(hook: str) -> bool:
        raise LookupError(hook)

    reader = Reader(broken)
    host = await run_host(plugins=[reader])
    await emit(reader.context, 1, 2)
    await read(host, 1, 2)
    assert [one for one in logged if "cannot say which events" in one["event"]]


class Measured(BaseModel):
    """How large it is.

    In numbers.
    """

    n: int
    unit: str = "m"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shown(self) -> str:
        """As people read it."""
        return f"{self.n} {self.unit}"


measured = Hook("measured", Measured, payload_rule="probe.thing.see")


class Measuring(Reader):
    @hookimpl
    def register(self, registry: Registry) -> None:
        super().register(registry)
        registry.hook(measured)


async def test_a_payload_is_as_the_hooks_model_writes_it_now_and_of_an_unknown_hook_as_it_is_stored(
    run_host: RunHost,
) -> None:
    reader = Measuring()
    host = await run_host(plugins=[reader])
    for hook, payload in (("measured", '{"n": 1}'), ("forgotten", '{"n": 2, "x": [1]}'), ("measured", "{}")):
        await query(
            host,
            """SELECT ringfence_append_event('probe.' || :hook, :hook, 'probe', CAST(:payload AS jsonb),
                   NULL, NULL, NULL, gen_random_uuid(), false)""",
            hook=hook,
            payload=payload,
        )
    await emit(reader.context, 3)
    await read(host, 1, 2, 3)
    assert reader.events[0].payload == {"n": 1, "unit": "m", "shown": "1 m"}
    assert reader.events[1].payload == {"n": 2, "x": [1]}
    [(error,)] = await query(host, "SELECT error FROM failed_events")
    assert error.startswith("the event does not fit Measured")


async def test_the_directory_lists_what_is_stored_with_who_declares_it(run_host: RunHost) -> None:
    reader = Measuring()
    await run_host(plugins=[reader])
    hooks = reader.context.hooks
    found = {one.name: one for one in hooks.all()}
    assert list(found) == sorted(found)
    assert found["measured"] == hooks.find("measured")
    assert (found["measured"].plugin, found["measured"].model) == ("probe", Measured)
    assert (found["measured"].meaning, found["measured"].payload_rule) == (
        "How large it is.",
        "probe.thing.see",
    )
    assert found["access-token-created"].plugin == "host"
    assert whispered.name not in found
    assert hooks.find("whispered") is None


async def test_a_database_that_is_set_back_loses_no_event_of_the_history_that_holds(
    run_host: RunHost, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(tail, "RETRY_SECONDS", (0.05, 0.2))
    async with restorable(postgres) as database:
        reader = Reader()
        host = await run_host(plugins=[reader], database_url=database.url)
        await emit(reader.context, 1, 2)
        await read(host, 1, 2)
        await database.back_up()
        for n in (3, 4):
            await until_reached(lambda n=n: emit(reader.context, n))  # type: ignore[misc]
        await until(lambda: [event.payload["n"] for event in reader.events][-2:] == [3, 4])
        await database.restore()
        await until_reached(lambda: emit(reader.context, 5, hook=mentioned))
        await until_reached(lambda: emit(reader.context, 6))
        await until(lambda: [event.payload["n"] for event in reader.events][-2:] == [5, 6])
        await read(host, 1, 2, 5, 6)


async def test_what_cannot_work_is_refused(run_host: RunHost) -> None:
    probe = Reader()
    host = await run_host(plugins=[probe])
    on_events: Any = probe.context.on_events

    async def work(event: AnyEvent, session: AsyncSession) -> None: ...

    async def alone(event: AnyEvent) -> None: ...

    refusals: list[tuple[Callable[[], None], str]] = [
        (lambda: on_events(work, worker_group="A b", wanted=everything), "lower-case words"),
        (lambda: on_events(work, worker_group="reader", wanted=everything), "group reader, for all hooks"),
        (lambda: on_events(alone, worker_group="b", wanted=everything), r"async def alone\(event, session\)"),
        (lambda: on_events(work, worker_group="c", wanted={"noted"}), r"def wanted\(hook\)"),
    ]
    for refused, said in refusals:
        with pytest.raises(HookError, match=said):
            refused()
    assert [group.name for group in host.runtime.bus.groups().values()] == ["reader"]


async def test_a_recorder_delivers_to_it_what_it_wants(record: Record) -> None:
    heard: list[AnyEvent] = []

    async def hear(event: AnyEvent, _: AsyncSession) -> None:
        heard.append(event)

    async def ready(context: PluginContext) -> None:
        context.on_events(hear, worker_group="hearers", wanted=lambda name: name != "mentioned")

    recorder = await record(Probe(ready))
    assert recorder.subscriptions == (Subscription("*", Mode.WORK_QUEUE, "hearers"),)
    await recorder.deliver(noted, Noted(n=1), actor="me")
    with pytest.raises(HookError, match="does not listen to mentioned"):
        await recorder.deliver(mentioned, Noted(n=2))
    assert [(one.hook, one.payload["n"], one.actor) for one in heard] == [("noted", 1, "me")]
