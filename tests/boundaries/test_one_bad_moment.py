"""Something that nobody foresaw: it ends what it concerns, once, and is told; everything else goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from ringfence import PluginContext
from ringfence.testing import RunHost
from ringfence.web import TextMessage
from ringfence_satellite.agent.delivering.result_delivery import WINDOW
from ringfence_satellite.protocol import CheckResult, CloseCode, Heartbeat
from ringfence_satellite.server.assigned_work import Work
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.outbox import MAX_OWED, Outbox
from ringfence_satellite.server.journal import Journal
from ringfence_satellite.server.websocket import endpoint, visit
from sqlalchemy import text

from tests.boundaries.test_one_bad_peer import acknowledged
from tests.health_checks.conftest import CHECKS, Checking
from tests.host.plugins import MadePlugin
from tests.satellite.conftest import StartInstance
from tests.satellite.instances import Instance, Registered
from tests.satellite.test_doorway import UPGRADE
from tests.waiting import in_time, until, until_it

FAULT = "the host has failed at this connection; its log says why"


async def readiness(instance: Instance) -> dict[str, Any]:
    answer: dict[str, Any] = (await instance.api.get("/readyz")).json()
    return answer


async def test_a_check_of_a_newer_release_is_left_out_and_the_others_go_on(instance: Instance) -> None:
    checking, satellite = Checking(instance.api), await instance.register(tags=["all"])
    newer = await checking.create(name="newer", runsOn={"tags": ["all"]})
    ours = await checking.create(name="ours", runsOn={"tags": ["all"]})
    async with instance.host.runtime.database.sessions.begin() as session:
        await session.execute(
            text(
                "UPDATE health_checks_checks SET definition = jsonb_set(definition, '{kind}', '\"powershell\"')"
                " WHERE name = 'newer'"
            )
        )
    instance_of_checks = next(one for one in instance.host.plugins if one.info.id == "health-checks")
    instance_of_checks.plugin._checks_copy._copy.forget()  # type: ignore[attr-defined]
    async with instance.peer(satellite) as peer:
        welcome = await peer.hear("authenticated")
        assert [one["configId"] for one in welcome["assignments"]] == [ours["id"]]
    listed = (await instance.api.get(CHECKS)).json()["checks"]
    assert [one["name"] for one in listed] == ["ours"]
    shown = await instance.api.get(f"{CHECKS}/{newer['id']}")
    assert (shown.status_code, "powershell" in shown.text) == (409, False)
    assert (await instance.api.delete(f"{CHECKS}/{newer['id']}")).status_code == 204
    await until_it(lambda: ready(instance), "the instance is ready")


async def test_whatever_ends_a_connection_ends_it_once(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    rogue, honest = await instance.register("rogue"), await instance.register("honest")
    plugin, connections = instance.plugin, list[Connection]()

    async def broken(*_: object) -> Any:
        connections.extend(plugin._relay.admitted())
        raise LookupError("nobody foresaw this")

    with monkeypatch.context() as patched:
        patched.setattr(Work, "assignments", broken)
        async with instance.peer(rogue) as peer:
            assert await peer.closed() == (CloseCode.FAULT, FAULT)
    assert plugin._endpoint is not None
    assert len(plugin._endpoint._doorway) == 0
    assert not plugin._relay.admitted()
    await instance.until(rogue, lambda shown: shown["version"] == "1" and not shown["connectedAt"])
    (over,) = connections
    over.end(CloseCode.SILENT, "too late")
    await goes_on(instance, honest)


async def test_a_visitor_that_is_sent_away_after_its_end_harms_nobody(
    start_instance: StartInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is held until it has answered that it is closed; meanwhile another one may need it."""
    monkeypatch.setenv("RINGFENCE_SATELLITE_MAX_UNAUTHENTICATED", "1")
    monkeypatch.setattr(endpoint, "AUTHENTICATE_SECONDS", 0.2)
    monkeypatch.setattr(visit, "CLOSE_SECONDS", 60.0)
    instance = await start_instance()
    satellite = await instance.register()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(instance.url.rsplit(":", 1)[1]))
    writer.write(UPGRADE)
    async with in_time("the silent one is closed"):
        # The close frame of a peer that does not answer it (RFC 6455, 5.5.1): its first byte is 0x88.
        while b"\x88" not in await reader.read(4096):
            pass
    monkeypatch.setattr(endpoint, "AUTHENTICATE_SECONDS", 60.0)
    async with instance.connected(satellite) as peer:
        await peer.say(Heartbeat(version="let in"))
        await instance.until(satellite, lambda shown: shown["version"] == "let in")
    writer.close()


async def test_a_task_that_ends_is_started_again_and_said_to_have_ended(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was: the satellites are heard of again, without a restart of the instance."""
    satellite = await instance.register()
    with monkeypatch.context() as patched:

        async def broken(*_: object) -> None:
            raise LookupError("nobody foresaw this")

        patched.setattr(Journal, "write", broken)
        async with instance.connected(satellite) as peer:
            await peer.say(Heartbeat())
            state = await until_it(lambda: unready(instance), "the instance says that it is not ready")
    assert state is not None
    assert state["failedTasks"]["satellite:journal"] == "LookupError: nobody foresaw this"
    await goes_on(instance, satellite)
    state = await readiness(instance)
    assert state["restartedTasks"]["satellite:journal"]["times"] >= 1
    assert not state["failedTasks"]


async def unready(instance: Instance) -> dict[str, Any] | None:
    state = await readiness(instance)
    return state if "satellite:journal" in state["failedTasks"] and not state["ready"] else None


async def test_what_a_satellite_asks_for_is_answered_when_there_is_room(instance: Instance) -> None:
    """It sends no more before it has its answers, so that one which is dropped is waited for, for ever."""
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        connection = instance.plugin._relay.connection_of(UUID(satellite.id))
        assert connection is not None
        filler = TextMessage(json.dumps({"type": "filler", "text": "x" * 100}))
        with_held, connection._outbox._welcomed = connection._outbox._welcomed, False
        while connection.send(filler):
            pass
        for n in range(WINDOW):
            await peer.say(result(str(n)))
        await until(lambda: len(connection._outbox._owed or ()) == WINDOW)
        connection._outbox._welcomed = with_held
        connection.flush()
        acks = [await acknowledged(peer) for _ in range(WINDOW)]
    assert [one["resultId"] for one in acks] == [str(n) for n in range(WINDOW)]


def result(id: str) -> CheckResult:
    return CheckResult(
        config_id="c", system_id="s", status="healthy", executed_at="2024-05-01T12:00:00Z", result_id=id
    )


def test_answers_that_nobody_reads_are_bounded() -> None:
    outbox = Outbox()
    message = TextMessage("{}")
    assert all(outbox.owe(message) for _ in range(MAX_OWED))
    assert not outbox.owe(message)
    assert outbox.put(message), "other messages have room of their own"


async def goes_on(instance: Instance, satellite: Registered) -> None:
    """What this satellite says reaches the database, and the instance is ready."""
    async with instance.connected(satellite) as peer:
        await peer.say(Heartbeat(version="still here"))
        await instance.until(satellite, lambda shown: shown["version"] == "still here")
    await until_it(lambda: ready(instance), "the instance is ready")


async def ready(instance: Instance) -> bool:
    return bool((await readiness(instance))["ready"])


async def test_a_task_that_was_started_again_ends_with_its_plugin(run_host: RunHost) -> None:
    begun, ended = list[int](), list[int]()

    async def work() -> None:
        begun.append(1)
        if len(begun) < 3:
            raise LookupError("nobody foresaw this")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def start(context: PluginContext) -> None:
        context.supervise(work, name="work")

    host = await run_host(plugins=[MadePlugin("a", ready=start)])
    await until(lambda: len(begun) == 3)
    await host.__aexit__(None, None, None)
    assert ended == [1]


async def test_a_task_that_returns_is_started_again_too(run_host: RunHost) -> None:
    begun = list[int]()

    async def work() -> None:
        begun.append(1)

    async def start(context: PluginContext) -> None:
        context.supervise(work, name="work")

    host = await run_host(plugins=[MadePlugin("a", ready=start)])
    await until(lambda: len(begun) > 1)
    assert "it has ended" in host.runtime.tasks.restarts["a:work"].error
