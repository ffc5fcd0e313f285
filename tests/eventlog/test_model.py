"""The event log against a simple model: lists. Whatever is appended, undone, heard, worked on, cut and crashed."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from ringfence.delivery.hook_delivery import HookDelivery
from ringfence.eventlog import (
    EventLog,
    EventRecord,
    Tailer,
    WrongExpectedVersionError,
    read_after,
    verify_stream,
)
from ringfence.eventlog.groups import consume
from ringfence.eventlog.groups.consume import Consumer
from ringfence.hooks import Event, Hook, HookBus, WorkGroup
from ringfence.storage.database import Database
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch
from ringfence.testing import TestPostgres
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, mentioned, noted
from tests.waiting import in_time

MAX_RETRIES = 1
T = TypeVar("T")


class Fact(NamedTuple):
    """What the model keeps of an event."""

    stream: str
    version: int
    hook: str
    n: int


@dataclass
class Subscriber:
    """A tailer, and what it has heard; `since` is how many events there were when it began."""

    tailer: Tailer
    since: int
    heard: list[Fact]
    running: asyncio.Task[None]


@dataclass
class Group:
    """The model of a worker group: what it will see next, and how often that has failed.

    `counted`: an attempt was counted before it was made, and nothing is known of its outcome. `dead`: whoever made it
    is gone. `trusted`: the instance has handled an event already.
    """

    done: int = 0
    failures: int = 0
    counted: bool = False
    dead: bool = False
    trusted: bool = False
    handled: list[int] = field(default_factory=list)
    set_aside: list[int] = field(default_factory=list)


def fact_of(record: EventRecord) -> Fact:
    return Fact(record.stream, record.version, record.hook, record.payload["n"])


class Crash(BaseException):
    """The process ends in the middle of a handler."""


class Cut(BaseException):
    """The connection is lost in the middle of a handler."""


def _payloads(facts: list[Fact]) -> list[tuple[str, Noted]]:
    return [(fact.stream, Noted(n=fact.n)) for fact in facts]


class Log(RuleBasedStateMachine):
    """The real log on one side, lists on the other."""

    subscribers = Bundle("subscribers")

    def __init__(self, url: str) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._database = Database(url)
        self._delivery = HookDelivery(HookBus(), uuid.uuid4(), EventLog(self._database.autocommit))
        self._behaviour: BaseException | None = None
        self._consumer = self._new_consumer()
        self._facts: list[Fact] = []
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._group = Group()
        self._live: list[Subscriber] = []
        self._n = 0

    def _new_consumer(self) -> Consumer:
        self._instance = uuid.uuid4()
        group = WorkGroup("probe", "group", noted, self._handle, MAX_RETRIES)
        return Consumer(self._database.work_sessions, group, instance=self._instance)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        """An empty log, and a group at its beginning."""
        self._run(
            self._execute(
                "TRUNCATE events, failed_events, event_cursors, event_instances RESTART IDENTITY CASCADE",
                "DROP TABLE IF EXISTS handled",
                "CREATE TABLE handled (id bigint GENERATED ALWAYS AS IDENTITY, n int)",
                "INSERT INTO event_cursors (plugin, worker_group, position, served_at) "
                "VALUES ('probe', 'group', 0, now())",
            )
        )

    @rule(
        streams=st.lists(st.sampled_from("ab"), min_size=1, max_size=4),
        hook=st.sampled_from([noted, mentioned]),
        at_once=st.booleans(),
        commit=st.booleans(),
    )
    def append(self, streams: list[str], hook: Hook[Noted], at_once: bool, commit: bool) -> None:
        """Several events in one transaction, one by one or at once, which commits or does not."""
        self._run(self._append(streams, hook, at_once, commit))

    async def _append(self, streams: list[str], hook: Hook[Noted], at_once: bool, commit: bool) -> None:
        versions = self._versions.copy()
        facts = self._next_facts(streams, hook, versions)
        async with self._database.sessions() as session:
            await session.begin()
            if at_once:
                await self._delivery.emit_all("probe", hook, _payloads(facts), session=session)
            else:
                for fact in facts:
                    event = await self._delivery.emit(
                        "probe", hook, Noted(n=fact.n), session=session, stream=fact.stream
                    )
                    assert event.version == fact.version
            if commit:
                await session.commit()
                self._facts += facts
                self._versions = versions

    @rule(streams=st.lists(st.sampled_from("ab"), min_size=1, max_size=4), at_once=st.booleans())
    def append_standalone(self, streams: list[str], at_once: bool) -> None:
        """Several events with no transaction around them: each its own, or all in one."""
        self._run(self._append_standalone(streams, at_once))

    async def _append_standalone(self, streams: list[str], at_once: bool) -> None:
        facts = self._next_facts(streams, noted, self._versions)
        if at_once:
            await self._delivery.emit_all("probe", noted, _payloads(facts), session=None, standalone=True)
        else:
            for fact in facts:
                event = await self._delivery.emit(
                    "probe", noted, Noted(n=fact.n), session=None, standalone=True, stream=fact.stream
                )
                assert event.version == fact.version
        self._facts += facts

    def _next_facts(
        self, streams: list[str], hook: Hook[Noted], versions: defaultdict[str, int]
    ) -> list[Fact]:
        facts = []
        for stream in streams:
            self._n += 1
            versions[stream] += 1
            facts.append(Fact(stream, versions[stream], hook.name, self._n))
        return facts

    @rule(stream=st.sampled_from("ab"), offset=st.integers(-2, 2))
    def append_expecting(self, stream: str, offset: int) -> None:
        """With an expected version: right or wrong."""
        self._run(self._append_expecting(stream, self._versions[stream] + offset))

    async def _append_expecting(self, stream: str, expected: int) -> None:
        self._n += 1
        found: int | None = None
        try:
            async with self._database.sessions.begin() as session:
                await self._delivery.emit(
                    "probe",
                    noted,
                    Noted(n=self._n),
                    session=session,
                    stream=stream,
                    expected_version=expected,
                )
        except WrongExpectedVersionError as error:
            found = error.current
        if expected == self._versions[stream]:
            assert found is None
            self._versions[stream] += 1
            self._facts.append(Fact(stream, self._versions[stream], "noted", self._n))
        else:
            assert found == self._versions[stream]

    @rule(target=subscribers)
    def subscribe(self) -> Subscriber | Any:
        """A new instance, from now on."""
        if len(self._live) == 3:
            return multiple()
        return self._run(self._subscribe())

    async def _subscribe(self) -> Subscriber:
        heard: list[Fact] = []

        async def deliver(record: EventRecord) -> None:
            heard.append(fact_of(record))

        tailer = Tailer(self._database.libpq_url, deliver)
        await tailer.start_at_end()
        running = asyncio.create_task(tailer.run())
        subscriber = Subscriber(tailer, len(self._facts), heard, running)
        self._live.append(subscriber)
        return subscriber

    @rule(subscriber=consumes(subscribers))
    def crash(self, subscriber: Subscriber) -> None:
        """An instance is gone: what it has heard until then is a beginning of what there was to hear."""
        self._run(self._stop(subscriber))
        assert subscriber.heard == self._facts[subscriber.since :][: len(subscriber.heard)]

    async def _stop(self, subscriber: Subscriber) -> None:
        self._live.remove(subscriber)
        subscriber.running.cancel()
        await asyncio.gather(subscriber.running, return_exceptions=True)

    @rule()
    def cut_connections(self) -> None:
        """The server ends every connection but the one that asks."""
        self._run(
            self._execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    @rule(behaviour=st.sampled_from([None, None, ValueError("no"), Crash(), Cut()]))
    def work(self, behaviour: BaseException | None) -> None:
        """The group takes one step: its handler succeeds, fails, loses its connection, or takes its process down."""
        waiting = [fact.n for fact in self._facts if fact.hook == "noted"][self._group.done :]
        self._behaviour = behaviour
        crashed = cut = False
        try:
            self._run(self._consumer.step())
        except Crash:
            crashed = True
            self._die()
        except DBAPIError:
            cut = True
        group = self._group
        assert not (crashed or cut) or waiting
        if not waiting:
            return
        if group.dead:
            assert (crashed, cut) == (False, False), "that the last one died is all that this step finds out"
            group.counted = group.dead = False
            self._failed(waiting[0])
            return
        if not group.counted and not group.trusted:
            group.counted = True
            group.failures += 1
        assert (crashed, cut) == (isinstance(behaviour, Crash), isinstance(behaviour, Cut))
        if crashed:
            group.dead, group.trusted = group.counted, False
        elif isinstance(behaviour, ValueError):
            group.failures += not group.counted
            group.counted = False
            self._failed(waiting[0])
        elif not cut:
            group.handled.append(waiting[0])
            self._passed(trusted=True)

    def _failed(self, n: int) -> None:
        if self._group.failures > MAX_RETRIES:
            self._group.set_aside.append(n)
            self._passed(trusted=self._group.trusted)

    def _passed(self, *, trusted: bool) -> None:
        self._group.done += 1
        self._group.failures = 0
        self._group.counted = False
        self._group.trusted = trusted

    def _die(self) -> None:
        """The group's instance is not heard of any more, and another one takes over."""
        gone = f"INSERT INTO event_instances VALUES ('{self._instance}', 0, now() - interval '1 hour')"
        self._run(self._execute(gone))
        self._consumer = self._new_consumer()

    @rule()
    def hand_over(self) -> None:
        """The group's instance leaves in good order, and another one takes over: nothing is held against anybody."""
        self._consumer = self._new_consumer()
        self._group.trusted = False

    async def _handle(self, event: Event[Noted], session: AsyncSession) -> None:
        await session.execute(text("INSERT INTO handled (n) VALUES (:n)"), {"n": event.payload.n})
        if isinstance(self._behaviour, Cut):
            pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await self._execute(f"SELECT pg_terminate_backend({pid}, 5000)")
            await session.execute(text("SELECT 1"))
        if self._behaviour is not None:
            raise self._behaviour

    @invariant()
    def holds(self) -> None:
        """The log is the list; whoever listens has heard it; the group has done what the model says."""
        self._run(self._compare())

    async def _compare(self) -> None:
        async with self._database.sessions() as session:
            records = await read_after(session, 0, limit=10_000)
            assert [fact_of(record) for record in records] == self._facts
            for stream in "ab":
                assert (await verify_stream(session, stream)).misfit is None
            handled = (await session.execute(text("SELECT n FROM handled ORDER BY id"))).scalars().all()
            aside = await session.execute(
                text(
                    "SELECT (payload->>'n')::int FROM failed_events JOIN events USING (position) ORDER BY position"
                )
            )
            assert (list(handled), list(aside.scalars())) == (self._group.handled, self._group.set_aside)
        for subscriber in self._live:
            async with in_time("the end of the log is heard"):
                await subscriber.tailer.wait_for(records[-1].position if records else 0)
            assert subscriber.heard == self._facts[subscriber.since :]

    async def _execute(self, *statements: str) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._database.libpq_url, autocommit=True
        ) as connection:
            for statement in statements:
                await connection.execute(statement)

    def teardown(self) -> None:
        """Stop what still runs."""
        for subscriber in list(self._live):
            self._run(self._stop(subscriber))
        self._run(self._database.close())
        self._loop.close()


@pytest.mark.slow
def test_the_log_does_what_lists_would(postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "pause", lambda failures: 0.0)
    url = asyncio.run(postgres.create([MigrationBranch("host", HOST_MIGRATIONS)]))

    class LogAtUrl(Log):
        def __init__(self) -> None:
            super().__init__(url)

    run_state_machine_as_test(
        LogAtUrl,
        settings=settings(
            max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
