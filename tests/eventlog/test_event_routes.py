"""The event log over HTTP: what is shown to whom, waiting for more, and replaying what failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from ringfence import Event, Hook, Mode, PluginContext, Registry, backoff, hookimpl
from ringfence.eventlog.groups import membership, workers
from ringfence.host import Host
from ringfence.testing import RunHost, client
from sqlalchemy.ext.asyncio import AsyncSession

from tests.eventlog.probe import Noted, Probe, emit, noted, query
from tests.waiting import in_time, until

EVENTS = "/api/host/events"
guarded = Hook("guarded", Noted, payload_rule="probe.thing.see")


class GuardedProbe(Probe):
    """A probe with a hook whose payload some may read."""

    @hookimpl
    def register(self, registry: Registry) -> None:
        super().register(registry)
        registry.hook(guarded)
        registry.access_rule("thing", "see", "See things")


@pytest.fixture
def probe() -> GuardedProbe:
    return GuardedProbe()


@pytest.fixture
async def host(run_host: RunHost, probe: Probe) -> Host:
    return await run_host(plugins=[probe])


@pytest.fixture
async def http(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as http:
        yield http


async def test_who_waits_for_an_event_is_answered_at_once_when_the_instance_drains(
    host: Host, http: httpx.AsyncClient, probe: Probe
) -> None:
    [event] = await emit(probe.context, 1)
    await until(lambda: host.runtime.tailer.cursor >= event.position)
    asked = {"after": event.position, "wait": 25}
    waiting = asyncio.create_task(http.get(EVENTS, params=asked, timeout=60))
    await until(lambda: len(host.runtime.drain._waits) == 1)
    host.runtime.drain.ask()
    async with in_time("both answers, long before the end of the wait", seconds=12):
        for answer in (await waiting, await http.get(EVENTS, params=asked, timeout=60)):
            assert answer.json() == {"events": []}


async def token(http: httpx.AsyncClient, *rules: str) -> str:
    made = await http.post("/api/host/tokens", json={"name": "-".join(rules), "rules": rules})
    secret: str = made.json()["token"]
    return secret


async def positions(http: httpx.AsyncClient, **params: int | str) -> list[int]:
    answer = await http.get(EVENTS, params=params)
    return [event["position"] for event in answer.json()["events"]]


async def test_the_last_events_are_shown_oldest_first_and_can_be_paged_through(
    http: httpx.AsyncClient, probe: Probe
) -> None:
    stored = [event.position for event in await emit(probe.context, 1, 2, 3, 4)]
    assert await positions(http, limit=3) == stored[1:]
    assert await positions(http, after=stored[0], limit=2) == stored[1:3]
    assert await positions(http, after=stored[3]) == []


async def test_one_stream_can_be_picked_out(http: httpx.AsyncClient, probe: Probe) -> None:
    await emit(probe.context, 1)
    [event] = await emit(probe.context, 2, stream="other")
    assert await positions(http, stream="other") == [event.position]
    assert await positions(http, stream="other", after=0) == [event.position]
    assert await positions(http, stream="none") == []


async def test_one_stream_is_paged_through_from_any_position(http: httpx.AsyncClient, probe: Probe) -> None:
    mine, others = list[int](), list[int]()
    for number in range(4):
        mine += [one.position for one in await emit(probe.context, number, stream="mine")]
        others += [one.position for one in await emit(probe.context, number, stream="another")]
    for begin in (0, mine[0], others[0]):
        expected = [position for position in mine if position > begin]
        assert await positions(http, stream="mine", after=begin) == expected
        assert await positions(http, stream="mine", after=begin, limit=2) == expected[:2]
    assert await positions(http, stream="mine", limit=2) == mine[2:]


async def test_an_event_tells_everything_but_what_is_in_it(http: httpx.AsyncClient, probe: Probe) -> None:
    await emit(probe.context, 5, actor="ada", reason="because")
    [event] = (await http.get(EVENTS)).json()["events"]
    assert event | {"occurredAt": "", "instance": "", "position": 0} == {
        "position": 0,
        "stream": "probe.noted",
        "version": 1,
        "hook": "noted",
        "plugin": "probe",
        "actor": "ada",
        "reason": "because",
        "occurredAt": "",
        "instance": "",
        "payload": None,
        "payloadWithheld": True,
    }


async def test_a_payload_is_shown_only_to_a_holder_of_the_rule_that_its_hook_names(
    host: Host, http: httpx.AsyncClient, probe: Probe
) -> None:
    await emit(probe.context, 5, hook=guarded)
    [event] = (await http.get(EVENTS)).json()["events"]
    assert (event["payload"], event["payloadWithheld"]) == ({"n": 5, "secret": ""}, False)
    async with client(host, token=await token(http, "host.event.read")) as other:
        [event] = (await other.get(EVENTS)).json()["events"]
    assert (event["payload"], event["payloadWithheld"]) == (None, True)


async def test_reading_and_managing_are_rules_of_their_own(host: Host, http: httpx.AsyncClient) -> None:
    async with client(host, token=await token(http, "host.event.read")) as reader:
        assert (await reader.get(EVENTS)).status_code == 200
        assert (await reader.get(f"{EVENTS}/failed")).status_code == 403
        assert (await reader.post(f"{EVENTS}/replay", json={"all": True})).status_code == 403
    async with client(host, token=await token(http, "host.event.manage")) as manager:
        assert (await manager.get(EVENTS)).status_code == 403
        assert (await manager.get(f"{EVENTS}/failed")).status_code == 200


async def test_a_request_that_waits_is_answered_as_soon_as_there_is_an_event_of_the_stream(
    http: httpx.AsyncClient, probe: Probe
) -> None:
    waiting = asyncio.create_task(positions(http, after=0, stream="wanted", wait=20))
    await emit(probe.context, 1, stream="other")
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    [event] = await emit(probe.context, 2, stream="wanted")
    async with in_time("the answer"):
        assert await waiting == [event.position]


async def test_a_request_that_has_waited_in_vain_is_answered_with_nothing(http: httpx.AsyncClient) -> None:
    assert await positions(http, after=0, wait="0.1") == []


class TestFailures:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(membership, "TICK_SECONDS", 0.05)
        monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.001)
        monkeypatch.setattr(workers, "POLL_SECONDS", 0.05)

    @pytest.fixture
    def mended(self) -> asyncio.Event:
        return asyncio.Event()

    @pytest.fixture
    def handled(self) -> list[int]:
        return []

    @pytest.fixture
    def probe(self, mended: asyncio.Event, handled: list[int]) -> GuardedProbe:
        async def work(event: Event[Noted], _: AsyncSession) -> None:
            if event.payload.n < 0 and not mended.is_set():
                raise ValueError("negative")
            handled.append(event.payload.n)

        async def ready(context: PluginContext) -> None:
            context.on_hook(noted, work, mode=Mode.WORK_QUEUE, worker_group="counter", max_retries=1)

        return GuardedProbe(ready)

    async def test_what_failed_is_listed_with_its_error(
        self, http: httpx.AsyncClient, probe: Probe, handled: list[int]
    ) -> None:
        events = await emit(probe.context, -1, 2)
        await until(lambda: handled == [2])
        [one] = (await http.get(f"{EVENTS}/failed")).json()["failed"]
        assert (one["plugin"], one["workerGroup"], one["hook"]) == ("probe", "counter", "noted")
        assert (one["position"], one["attempts"], one["error"]) == (
            events[0].position,
            2,
            "ValueError: negative",
        )
        assert one["replaying"] is False

    async def test_a_replayed_event_is_handled_and_gone_from_the_list(
        self, http: httpx.AsyncClient, probe: Probe, handled: list[int], mended: asyncio.Event
    ) -> None:
        await emit(probe.context, -1, -2, 3)
        await until(lambda: handled == [3])
        first, second = (await http.get(f"{EVENTS}/failed")).json()["failed"]
        mended.set()
        answer = await http.post(f"{EVENTS}/replay", json={"ids": [second["id"]]})
        assert (answer.status_code, answer.json()) == (202, {"replaying": [second["id"]]})
        await until(lambda: handled == [3, -2])
        async with in_time("the one that was replayed is listed no more"):
            while len((await http.get(f"{EVENTS}/failed")).json()["failed"]) > 1:
                await asyncio.sleep(0.01)
        answer = await http.post(f"{EVENTS}/replay", json={"all": True})
        assert answer.json() == {"replaying": [first["id"]]}
        await until(lambda: handled == [3, -2, -1])
        async with in_time("nothing is listed as failed"):
            while (await http.get(f"{EVENTS}/failed")).json()["failed"]:
                await asyncio.sleep(0.01)
        await emit(probe.context, 4)
        await until(lambda: handled == [3, -2, -1, 4])

    async def test_what_fails_again_stays_in_the_list_and_does_not_hold_up_the_group(
        self, host: Host, http: httpx.AsyncClient, probe: Probe, handled: list[int]
    ) -> None:
        await emit(probe.context, -1, 2)
        await until(lambda: handled == [2])
        await http.post(f"{EVENTS}/replay", json={"all": True})
        async with in_time("it has failed again"):
            while await query(host, "SELECT attempts, replay FROM failed_events") != [(3, False)]:
                await asyncio.sleep(0.01)
        await emit(probe.context, 3)
        await until(lambda: handled == [2, 3])

    async def test_an_unknown_failure_is_not_replayed_nor_is_what_was_named_with_it(
        self, host: Host, http: httpx.AsyncClient, probe: Probe, handled: list[int]
    ) -> None:
        await emit(probe.context, -1, 2)
        await until(lambda: handled == [2])
        [one] = (await http.get(f"{EVENTS}/failed")).json()["failed"]
        answer = await http.post(f"{EVENTS}/replay", json={"ids": [one["id"], 4711]})
        assert answer.status_code == 404
        assert "4711" in answer.json()["detail"]
        assert await query(host, "SELECT replay FROM failed_events") == [(False,)]

    @pytest.mark.parametrize("body", [{}, {"ids": []}, {"ids": [1], "all": True}, {"ids": [0]}])
    async def test_a_request_that_says_neither_or_both_is_refused(
        self, http: httpx.AsyncClient, body: dict[str, object]
    ) -> None:
        assert (await http.post(f"{EVENTS}/replay", json=body)).status_code == 422
