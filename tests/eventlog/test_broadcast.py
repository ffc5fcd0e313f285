"""Broadcast and instance-local delivery: to everyone, in order, and no listener in another's way."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ringfence import Event, Hook, Mode, PluginContext, hooks
from ringfence.delivery import lanes
from ringfence.host import Host
from ringfence.testing import RunHost, client

from tests.eventlog.probe import Noted, Probe, emit, mentioned, noted, query, whispered
from tests.host.plugins import MadePlugin
from tests.waiting import in_time, until


class Heard(list[int]):
    """A listener that remembers what it heard."""

    async def __call__(self, event: Event[Noted]) -> None:
        self.append(event.payload.n)


def listening(*listeners: hooks.Handler[Noted]) -> Probe:
    async def ready(context: PluginContext) -> None:
        for listener in listeners:
            context.on_hook(noted, listener)

    return Probe(ready)


async def readiness(host: Host) -> dict[str, Any]:
    async with client(host) as http:
        answer: dict[str, Any] = (await http.get("/readyz")).json()
        return answer


async def test_every_instance_hears_every_event_in_the_order_of_positions(run_host: RunHost) -> None:
    heard = [Heard(), Heard(), Heard()]
    probes = [listening(one) for one in heard]
    hosts = [await run_host(plugins=[probe]) for probe in probes]
    await asyncio.gather(
        *(emit(probe.context, *range(100 * k, 100 * k + 30)) for k, probe in enumerate(probes))
    )
    await until(lambda: all(len(one) >= 90 for one in heard))
    stored = [
        n for (n,) in await query(hosts[0], "SELECT (payload->>'n')::int FROM events ORDER BY position")
    ]
    assert heard == [stored, stored, stored]
    assert sorted(stored) == [*range(30), *range(100, 130), *range(200, 230)]


async def test_an_event_is_heard_only_after_its_commit(run_host: RunHost) -> None:
    heard = Heard()
    probe = listening(heard)
    await run_host(plugins=[probe])
    context = probe.context
    async with context.sessions.begin() as session:
        first = await context.emit_hook(noted, Noted(n=1), session=session)
        waiting = asyncio.create_task(context.wait_for_event(first.position))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        assert heard == []
    async with in_time("the event is heard"):
        await waiting
    assert heard == [1]


async def test_an_instance_hears_what_comes_after_its_start_and_nothing_from_before(
    run_host: RunHost,
) -> None:
    early = Probe()
    await run_host(plugins=[early])
    await emit(early.context, 1, 2)
    heard = Heard()

    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, heard)
        await emit(context, 3)

    await run_host(plugins=[Probe(ready)])
    await emit(early.context, 4)
    await until(lambda: len(heard) == 2)
    assert heard == [3, 4]


async def test_a_listener_that_raises_stops_neither_the_others_nor_the_next_event(run_host: RunHost) -> None:
    async def fails(event: Event[Noted]) -> None:
        raise ValueError(event.payload.n)

    heard = Heard()
    probe = listening(fails, heard, fails)
    host = await run_host(plugins=[probe])
    await emit(probe.context, 1, 2)
    await until(lambda: heard == [1, 2])
    await until(lambda: host.runtime.tailer.live)


async def exits(_: Event[Noted]) -> None:
    raise SystemExit(3)


async def lets_out_a_cancellation(_: Event[Noted]) -> None:
    never = asyncio.create_task(asyncio.Event().wait())
    never.cancel()
    await never


@pytest.mark.parametrize("listener", [exits, lets_out_a_cancellation])
async def test_a_listener_that_exits_or_lets_a_cancellation_out_has_failed_and_no_more(
    run_host: RunHost, listener: hooks.Handler[Noted]
) -> None:
    heard = Heard()
    bad, good = Probe(listening(listener).ready, id="bad"), listening(heard)
    host = await run_host(plugins=[bad, good])
    events = await emit(good.context, 1, 2, 3)
    await good.context.wait_for_event(events[-1].position)
    assert heard == [1, 2, 3]
    assert host.runtime.delivery.missed == {"bad": events[0].position}
    assert host.runtime.tasks.failures == {}


async def test_who_has_another_model_for_a_hook_of_that_name_spoils_it_for_nobody(run_host: RunHost) -> None:
    class Other(BaseModel):
        n: str

    class Loose(BaseModel):
        n: int | None = None

    heard, misfit, loose = Heard(), Heard(), list[BaseModel]()

    async def hear_loosely(event: Event[Loose]) -> None:
        loose.append(event.payload)

    async def ready(context: PluginContext) -> None:
        context.on_hook(Hook("noted", Other), misfit)  # type: ignore[arg-type]
        context.on_hook(Hook("noted", Loose), hear_loosely)

    good = listening(heard)
    host = await run_host(plugins=[good, Probe(ready, id="stranger")])
    [event] = await emit(good.context, 7)
    await good.context.wait_for_event(event.position)
    assert (heard, misfit, loose) == ([7], [], [Loose(n=7)])
    assert host.runtime.delivery.missed == {"stranger": event.position}


async def test_a_model_whose_own_code_fails_spoils_it_for_nobody_else(run_host: RunHost) -> None:
    class Fragile(BaseModel):
        n: int

        @model_validator(mode="before")
        @classmethod
        def look_up(cls, payload: dict[str, Any]) -> object:
            return {1: payload, 3: payload}[payload["n"]] and payload

    heard, fragile = Heard(), list[int]()

    async def hear_fragile(event: Event[Fragile]) -> None:
        fragile.append(event.payload.n)

    async def ready(context: PluginContext) -> None:
        context.on_hook(Hook("noted", Fragile), hear_fragile)

    good = listening(heard)
    host = await run_host(plugins=[good, Probe(ready, id="stranger")])
    events = await emit(good.context, 1, 2, 3)
    await until(lambda: (heard, fragile) == ([1, 2, 3], [1, 3]))
    assert host.runtime.delivery.missed == {"stranger": events[1].position}
    assert host.runtime.tasks.failures == {}


async def test_a_strict_model_hears_what_json_can_only_write_as_text(run_host: RunHost) -> None:
    class Dated(BaseModel):
        model_config = ConfigDict(strict=True)

        at: dt.datetime
        digest: Annotated[bytes, Field(max_length=4)]
        names: frozenset[str]

    dated = Hook("dated", Dated)
    heard = list[Dated]()

    async def hear(event: Event[Dated]) -> None:
        heard.append(event.payload)

    async def ready(context: PluginContext) -> None:
        context.on_hook(dated, hear)

    owner = MadePlugin("owner", register=lambda registry: registry.hook(dated), ready=ready)
    host = await run_host(plugins=[owner])
    said = Dated(at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC), digest=b"\x01a", names=frozenset({"a", "b"}))
    context = host._lifecycle._contexts["owner"]
    await context.emit_hook(dated, said, standalone=True)
    await until(lambda: heard == [said])


@pytest.mark.slow
async def test_a_listener_that_never_ends_is_cut_off_and_the_rest_goes_on(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "LISTENER_SECONDS", 0.05)
    heard = Heard()

    async def hangs(_: Event[Noted]) -> None:
        await asyncio.Event().wait()

    probe = listening(hangs, heard)
    await run_host(plugins=[probe])
    await emit(probe.context, 1, 2)
    await until(lambda: heard == [1, 2])


class Held:
    """A listener that does not get on until it is let go."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.let_go = asyncio.Event()

    async def __call__(self, event: Event[Noted]) -> None:
        await self.let_go.wait()
        self.heard.append(event.payload.n)


async def test_a_plugin_that_hangs_holds_no_other_up_and_catches_up_in_order(run_host: RunHost) -> None:
    held, heard = Held(), Heard()
    hanging, other = Probe(listening(held).ready, id="hanging"), listening(heard)
    host = await run_host(plugins=[hanging, other])
    async with in_time("less than a patience for each event", seconds=lanes.PATIENCE_SECONDS * 28):
        events = await emit(other.context, *range(30))
        await other.context.wait_for_event(events[-1].position)
    assert heard == list(range(30))
    assert (held.heard, other.context.tail_is_live) == ([], True)
    assert not hanging.context.tail_is_live
    assert (await readiness(host))["tail"]["slow"] == {"hanging": 30}
    waiting = asyncio.create_task(hanging.context.wait_for_event(events[3].position))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    held.let_go.set()
    await waiting
    assert held.heard[:4] == [0, 1, 2, 3]
    await hanging.context.wait_for_event(events[-1].position)
    assert held.heard == list(range(30))
    await until(lambda: hanging.context.tail_is_live)
    [event] = await emit(other.context, 99)
    await hanging.context.wait_for_event(event.position)
    assert held.heard[-1] == 99


async def test_a_plugin_hears_its_hooks_in_order_even_when_one_of_its_listeners_is_slow(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.01)
    held, heard = Held(), Heard()

    async def ready(context: PluginContext) -> None:
        context.on_hook(noted, held)
        context.on_hook(mentioned, heard)

    probe = Probe(ready)
    await run_host(plugins=[probe])
    await emit(probe.context, 1)
    await emit(probe.context, 2, hook=mentioned)
    await until(lambda: not probe.context.tail_is_live)
    done, _ = await asyncio.wait({asyncio.create_task(held.let_go.wait())}, timeout=0.1)
    assert (done, heard) == (set(), [])
    held.let_go.set()
    await until(lambda: heard == [2])


async def test_a_plugin_that_is_too_far_behind_misses_events_and_nobody_waits(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(lanes, "LANE_EVENTS", 3)
    held = Held()
    probe = listening(held)
    host = await run_host(plugins=[probe])
    events = await emit(probe.context, *range(6))
    await until(lambda: host.runtime.tailer.cursor == events[-1].position)
    assert host.runtime.delivery.missed == {"probe": events[3].position}
    held.let_go.set()
    await until(lambda: held.heard == [0, 1, 2])
    assert not probe.context.tail_is_live


async def test_a_plugin_that_has_missed_an_event_no_longer_relies_on_its_copy(run_host: RunHost) -> None:
    async def fails(event: Event[Noted]) -> None:
        raise ValueError(event.payload.n)

    sound = Heard()
    broken = Probe(listening(fails).ready, id="broken")
    intact = listening(sound)
    await run_host(plugins=[broken, intact])
    await until(lambda: broken.context.tail_is_live)
    [event] = await emit(intact.context, 1)
    await intact.context.wait_for_event(event.position)
    assert sound == [1]
    assert intact.context.tail_is_live
    assert not broken.context.tail_is_live


async def test_an_event_that_does_not_fit_its_model_is_passed_over_and_counts_as_missed(
    run_host: RunHost,
) -> None:
    heard = Heard()
    probe = listening(heard)
    host = await run_host(plugins=[probe])
    await query(
        host,
        "SELECT ringfence_append_event('s', 'noted', 'probe', '{\"n\": \"newer\"}', NULL, NULL, NULL, :i, false)",
        i=host.instance_id,
    )
    [event] = await emit(probe.context, 2)
    await probe.context.wait_for_event(event.position)
    assert heard == [2]
    assert not probe.context.tail_is_live


async def test_only_the_hook_that_was_subscribed_to_is_heard(run_host: RunHost) -> None:
    heard = Heard()
    probe = listening(heard)
    await run_host(plugins=[probe])
    await emit(probe.context, 1, hook=mentioned)
    await emit(probe.context, 2)
    await until(lambda: heard == [2])


async def test_an_instance_local_hook_stays_here_is_delivered_at_once_and_is_not_stored(
    run_host: RunHost,
) -> None:
    here, there = Heard(), Heard()

    async def ready(context: PluginContext) -> None:
        context.on_hook(whispered, here, mode=Mode.INSTANCE_LOCAL)

    async def elsewhere(context: PluginContext) -> None:
        context.on_hook(whispered, there, mode=Mode.INSTANCE_LOCAL)

    probe = Probe(ready)
    host = await run_host(plugins=[probe])
    await run_host(plugins=[Probe(elsewhere)])
    event = await probe.context.emit_hook(whispered, Noted(n=1))
    assert here == [1]
    assert (event.position, event.version) == (0, 0)
    assert await query(host, "SELECT * FROM events") == []
    [barrier] = await emit(probe.context, 9)
    await probe.context.wait_for_event(barrier.position)
    assert there == []


async def test_a_failing_instance_local_listener_does_not_reach_the_emitter(run_host: RunHost) -> None:
    async def fails(_: Event[Noted]) -> None:
        raise ValueError

    async def ready(context: PluginContext) -> None:
        context.on_hook(whispered, fails, mode=Mode.INSTANCE_LOCAL)

    probe = Probe(ready)
    await run_host(plugins=[probe])
    await probe.context.emit_hook(whispered, Noted(n=1))


async def test_more_events_than_fit_into_one_read_are_all_heard(run_host: RunHost) -> None:
    heard = Heard()
    probe = listening(heard)
    await run_host(plugins=[probe])
    async with probe.context.sessions.begin() as session:
        for n in range(1201):
            await probe.context.emit_hook(noted, Noted(n=n), session=session)
    await until(lambda: len(heard) == 1201)
    assert heard == list(range(1201))
