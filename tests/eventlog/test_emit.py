"""Emitting: what it records, and what it refuses with an error that says what to do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pydantic
import pytest
from ringfence import Hook, Mode, PluginContext
from ringfence.eventlog import WrongExpectedVersionError, read_after, read_stream, verify_stream
from ringfence.hooks import Event, HookError
from ringfence.plugins.registry import PluginError
from ringfence.testing import RunHost
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.eventlog.probe import Noted, Probe, emit, noted, treasured, whispered
from tests.host.plugins import MadePlugin
from tests.waiting import in_time, until


class Unrelated(pydantic.BaseModel):
    n: int


async def ignore(_: Event[Noted]) -> None:
    return None


@pytest.fixture
async def context(run_host: RunHost) -> PluginContext:
    probe = Probe()
    await run_host(plugins=[probe])
    return probe.context


async def test_an_event_says_who_what_when_and_why(context: PluginContext) -> None:
    [event] = await emit(context, 7, actor="ada", reason="because")
    async with context.sessions() as session:
        [record] = await read_after(session, 0)
    assert (record.stream, record.version, record.hook, record.plugin) == ("probe.noted", 1, "noted", "probe")
    assert (record.actor, record.reason, record.payload) == ("ada", "because", {"n": 7, "secret": ""})
    assert record.instance == context.instance_id
    assert record.as_event(noted) == event


async def test_what_is_rolled_back_was_never_emitted(context: PluginContext) -> None:
    async def fail() -> None:
        async with context.sessions.begin() as session:
            await context.emit_hook(noted, Noted(n=1), session=session)
            raise KeyError("undo")

    with pytest.raises(KeyError):
        await fail()
    [event] = await emit(context, 2)
    async with context.sessions() as session:
        assert [record.payload["n"] for record in await read_after(session, 0)] == [2]
    assert event.version == 1, "versions have no gaps"


async def test_an_expected_version_is_checked_against_the_stream(context: PluginContext) -> None:
    await emit(context, 1, hook=treasured, expected_version=0)
    with pytest.raises(WrongExpectedVersionError, match=r"treasury is at version 1, not at the expected 0"):
        await emit(context, 2, hook=treasured, expected_version=0)
    await emit(context, 3, hook=treasured, expected_version=1)
    async with context.sessions() as session:
        assert [record.payload["n"] for record in await read_stream(session, "treasury")] == [1, 3]


async def test_of_many_writers_with_one_expected_version_one_wins(context: PluginContext) -> None:
    async def attempt(n: int) -> bool:
        try:
            await emit(context, n, expected_version=0)
        except WrongExpectedVersionError:
            return False
        return True

    assert sorted(await asyncio.gather(*(attempt(n) for n in range(8)))) == [False] * 7 + [True]


async def test_streams_have_versions_of_their_own(context: PluginContext) -> None:
    events = [(await emit(context, n, stream=stream))[0] for n, stream in enumerate("abab")]
    assert [(event.stream, event.version) for event in events] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert [event.position for event in events] == sorted({event.position for event in events})


async def test_without_a_transaction_a_stored_hook_is_refused(context: PluginContext) -> None:
    with pytest.raises(HookError, match=r"inside the transaction.*sessions\.begin\(\)"):
        await context.emit_hook(noted, Noted(n=1))
    async with context.sessions() as session:
        with pytest.raises(HookError, match="inside the transaction"):
            await context.emit_hook(noted, Noted(n=1), session=session)


async def test_standalone_an_event_is_committed_and_heard_with_no_transaction_around_it(
    context: PluginContext,
) -> None:
    heard: list[int] = []

    async def hear(event: Event[Noted]) -> None:
        heard.append(event.payload.n)

    context.on_hook(noted, hear)
    event = await context.emit_hook(noted, Noted(n=1), standalone=True, actor="ada", reason="because")
    await context.emit_hooks(noted, [("a", Noted(n=2)), ("b", Noted(n=3))], standalone=True, actor="bob")
    async with context.sessions() as session:
        first, *others = await read_after(session, 0)
    assert first.as_event(noted) == event
    assert [(one.stream, one.version, one.actor) for one in others] == [("a", 1, "bob"), ("b", 1, "bob")]
    await context.wait_for_event(others[-1].position)
    await until(lambda: heard == [1, 2, 3])


async def test_standalone_a_wrong_expected_version_appends_nothing(context: PluginContext) -> None:
    await context.emit_hook(noted, Noted(n=1), standalone=True)
    with pytest.raises(WrongExpectedVersionError, match=r"at version 1, not at the expected 0"):
        await context.emit_hook(noted, Noted(n=2), standalone=True, expected_version=0)
    assert (await context.emit_hook(noted, Noted(n=3), standalone=True, expected_version=1)).version == 2


async def test_standalone_and_in_a_session_is_refused(context: PluginContext) -> None:
    async with context.sessions.begin() as session:
        with pytest.raises(HookError, match="leave out standalone=True"):
            await context.emit_hook(noted, Noted(n=1), session=session, standalone=True)
        with pytest.raises(HookError, match="leave out standalone=True"):
            await context.emit_hooks(noted, [("a", Noted(n=1))], session=session, standalone=True)
    with pytest.raises(HookError, match="never stored"):
        await context.emit_hook(whispered, Noted(n=1), standalone=True)


@pytest.mark.parametrize("end", ["cancelled", "cut"])
async def test_a_standalone_emission_that_is_stopped_while_it_waits_leaves_nothing_behind(
    context: PluginContext, end: str
) -> None:
    async with context.sessions.begin() as session:
        await context.emit_hook(noted, Noted(n=1), session=session)
        waiting = asyncio.create_task(context.emit_hook(noted, Noted(n=2), standalone=True))
        pid = await _pid_that_waits_for_the_log(context)
        if end == "cancelled":
            waiting.cancel()
        else:
            await session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        with pytest.raises(asyncio.CancelledError if end == "cancelled" else DBAPIError):
            await waiting
    # Whichever connection is next, it begins transactions again.
    for _ in range(3):
        with contextlib.suppress(KeyError):
            async with context.sessions.begin() as session:
                await context.emit_hook(noted, Noted(n=3), session=session)
                raise KeyError
    await context.emit_hook(noted, Noted(n=4), standalone=True)
    async with context.sessions() as session:
        assert [record.payload["n"] for record in await read_after(session, 0)] == [1, 4]


async def _pid_that_waits_for_the_log(context: PluginContext) -> int:
    async with in_time("a connection waits for the log"):
        while True:
            async with context.sessions() as session:
                waiting = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                if (pid := (await session.execute(waiting)).scalar()) is not None:
                    return int(pid)
            await asyncio.sleep(0.005)


async def test_many_at_once_follow_one_another_in_each_stream(context: PluginContext) -> None:
    await emit(context, 0, stream="b")
    async with context.sessions.begin() as session:
        await context.emit_hooks(noted, [], session=session)
        facts = [(stream, Noted(n=n)) for n, stream in enumerate("abaab", start=1)]
        await context.emit_hooks(noted, facts, session=session, actor="ada")
    async with context.sessions() as session:
        records = (await read_after(session, 0))[1:]
        assert [(one.stream, one.version, one.payload["n"]) for one in records] == [
            ("a", 1, 1),
            ("b", 2, 2),
            ("a", 2, 3),
            ("a", 3, 4),
            ("b", 3, 5),
        ]
        assert {one.actor for one in records} == {"ada"}
        for stream in "ab":
            assert (await verify_stream(session, stream)).misfit is None


async def test_with_a_session_an_instance_local_hook_is_refused(context: PluginContext) -> None:
    async with context.sessions.begin() as session:
        with pytest.raises(HookError, match="emit it without a session"):
            await context.emit_hook(whispered, Noted(n=1), session=session)


async def test_a_payload_of_another_model_is_refused(context: PluginContext) -> None:
    wrong: Any = Unrelated(n=1)
    async with context.sessions.begin() as session:
        with pytest.raises(
            HookError, match=r"carries Noted, not Unrelated: emit_hook\(noted, Noted\(\.\.\.\)\)"
        ):
            await context.emit_hook(noted, wrong, session=session)


class Measured(pydantic.BaseModel):
    """A payload of which not all that it can hold can be stored, or read again."""

    model_config = pydantic.ConfigDict(extra="forbid")

    value: float = 0.0
    text: str = ""


class MeasuredTwice(Measured):
    again: float = 0.0


class Renamed(pydantic.BaseModel):
    n: int = pydantic.Field(serialization_alias="number", validation_alias="count")


@pytest.mark.parametrize(
    ("model", "payload", "says"),
    [
        (Measured, Measured(value=float("nan")), "could not read it as Measured again: value"),
        (Measured, Measured(value=float("-inf")), "could not read it as Measured again: value"),
        (Measured, Measured(text="a\0b"), r"U\+0000: PostgreSQL's jsonb cannot store it"),
        (Measured, Measured(text="\\\0"), r"U\+0000: PostgreSQL's jsonb cannot store it"),
        (Measured, Measured.model_construct(text="\ud800"), "cannot be written as JSON"),
        (Measured, MeasuredTwice(again=1), "could not read it as Measured again: again"),
        (Renamed, Renamed.model_validate({"count": 1}), "could not read it as Renamed again: count"),
    ],
)
async def test_what_no_listener_could_read_is_refused_at_once_and_nothing_is_stored(
    run_host: RunHost, model: type[pydantic.BaseModel], payload: pydantic.BaseModel, says: str
) -> None:
    hook = Hook("measured", model)
    contexts: list[PluginContext] = []

    async def keep(context: PluginContext) -> None:
        contexts.append(context)

    await run_host(plugins=[MadePlugin("probe", register=lambda registry: registry.hook(hook), ready=keep)])
    [context] = contexts
    async with context.sessions() as session:
        with pytest.raises(HookError, match=says):
            await context.emit_hook(hook, payload, standalone=True)
        with pytest.raises(HookError, match=says):
            await context.emit_hooks(hook, [("a", payload)], standalone=True)
        assert await read_after(session, 0) == []
        # Text that only looks like the escape is stored as it is.
        if model is Measured:
            await context.emit_hook(hook, Measured(text=r"\u0000 \\u0000"), standalone=True)
            [record] = await read_after(session, 0)
            assert record.payload["text"] == r"\u0000 \\u0000"


async def test_a_hook_that_the_plugin_has_not_declared_is_refused(context: PluginContext) -> None:
    undeclared = Hook("undeclared", Noted)
    async with context.sessions.begin() as session:
        with pytest.raises(HookError, match=r"pass it to registry\.hook\(\)"):
            await context.emit_hook(undeclared, Noted(n=1), session=session)


async def test_before_everything_is_ready_nothing_can_be_emitted_or_subscribed_to(run_host: RunHost) -> None:
    async def emit_early(context: PluginContext) -> None:
        async with context.sessions.begin() as session:
            await context.emit_hook(noted, Noted(n=1), session=session)

    async def subscribe_early(context: PluginContext) -> None:
        context.on_hook(noted, ignore)

    for use, named in ((emit_early, r"emit_hook\(noted\)"), (subscribe_early, r"on_hook\(noted\)")):
        with pytest.raises(
            PluginError, match=rf"{named} before every plugin was ready: move it to after_plugins_ready"
        ):
            await run_host(plugins=[Probe(init=use)])


async def test_a_mode_that_does_not_fit_the_hook_is_refused(context: PluginContext) -> None:
    with pytest.raises(HookError, match="use broadcast or work-queue"):
        context.on_hook(noted, ignore, mode=Mode.INSTANCE_LOCAL)
    with pytest.raises(HookError, match="use instance-local"):
        context.on_hook(whispered, ignore)
