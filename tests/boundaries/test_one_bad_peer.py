"""One satellite says what must not be taken, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ringfence_satellite.protocol import CloseCode, Heartbeat
from sqlalchemy import text

from tests.health_checks.conftest import CHECKS, Checking, definition
from tests.satellite.instances import Instance, Peer, Registered

pytestmark = pytest.mark.usefixtures("no_fault_is_logged")


JSON = {"content-type": "application/json"}


async def assert_heard_of(instance: Instance, satellite: Registered, word: str) -> None:
    """What this satellite says still reaches the database."""
    async with instance.connected(satellite) as peer:
        await peer.say(Heartbeat(version=word))
        await instance.until(satellite, lambda shown: shown["version"] == word)
        assert (await instance.show(satellite))["status"] == "online"


async def acknowledged(peer: Peer) -> dict[str, Any]:
    """The next acknowledgement; what else the host says is passed over."""
    while (frame := await peer.hear())["type"] != "result_ack":
        pass
    return frame


async def test_a_number_that_is_none_ends_the_connection_and_no_batch(instance: Instance) -> None:
    rogue, honest = await instance.register("rogue"), await instance.register("honest")
    for n, number in enumerate(["1e400", "-1e999", "NaN", "Infinity", "1" * 400]):
        async with instance.connected(rogue) as peer:
            await peer.say(f'{{"type": "heartbeat", "capabilities": {{"x": [{number}]}}}}')
            code, reason = await peer.closed()
            assert code == CloseCode.UNREADABLE, number
            assert reason
        await assert_heard_of(instance, honest, f"still here {n}")


async def test_a_goodbye_is_stored_without_what_cannot_be_stored(instance: Instance) -> None:
    rogue, honest = await instance.register("rogue"), await instance.register("honest")
    for n, reason in enumerate(["a\0b", "\0", "🙂\0" * 10]):
        async with instance.connected(rogue) as peer:
            await instance.until(rogue, lambda shown: shown["status"] == "online")
            await peer.socket.close(1000, reason)
        await instance.until(rogue, lambda shown: shown["status"] == "offline")
        await assert_heard_of(instance, honest, f"still here {n}")


NO_TIMES = [
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "1969-12-31T23:59:59Z",
    "0001-01-01",
    "tomorrow",
    "",
]


async def test_a_time_that_cannot_be_breaks_no_list(instance: Instance) -> None:
    for number, moment in enumerate(NO_TIMES):
        rogue, checking = await instance.register(f"rogue-{number}"), Checking(instance.api)
        check = await checking.create(name=f"check-{number}", runsOn={"satellites": [rogue.id]})
        async with instance.connected(rogue) as peer:
            said = {"type": "result", "configId": check["id"], "systemId": "s", "status": "healthy"}
            await peer.say(json.dumps({**said, "resultId": "first", "executedAt": moment}))
            await acknowledged(peer)
        (stored,) = await checking.results(check)
        assert stored["executedAt"] >= check["createdAt"]
        assert (await instance.api.get(CHECKS)).status_code == 200


async def test_a_time_that_an_older_release_has_stored_breaks_no_list(instance: Instance) -> None:
    checking = Checking(instance.api)
    satellite = await instance.register()
    check = await checking.create(runsOn={"satellites": [satellite.id]})
    async with instance.host.runtime.database.sessions.begin() as session:
        for statement in (
            "INSERT INTO health_checks_results (check_id, ran_on, status, message, executed_at, id, system, metrics,"
            " detail) VALUES (:check, :place, 'healthy', '', '0001-01-01 00:01:00 BC', 'r', 's', '{}', '{}')",
            "UPDATE health_checks_latest SET executed_at = '0001-01-01 00:01:00 BC' WHERE check_id = :check"
            " AND ran_on = :place",
        ):
            await session.execute(text(statement), {"check": check["id"], "place": satellite.id})
    (stored,) = await checking.results(check)
    (shown,) = (await instance.api.get(CHECKS)).json()["checks"]
    assert {stored["executedAt"], shown["latest"][0]["executedAt"]} == {"2000-01-01T00:00:00Z"}


async def test_what_a_script_has_printed_is_stored_as_it_can_be(instance: Instance) -> None:
    satellite, checking = await instance.register(), Checking(instance.api)
    check = await checking.create(runsOn={"satellites": [satellite.id]})
    printed = {"message": "a\0b", "stdout": r"\u0000 is text", "stderr": "\0", "metrics": {"a\0": 1}}
    async with instance.connected(satellite) as peer:
        said = {"type": "result", "configId": check["id"], "systemId": "s", "status": "healthy"}
        when = "2024-05-01T12:00:00Z"
        await peer.say(json.dumps({**said, "resultId": "r", "executedAt": when, "result": printed}))
        assert (await acknowledged(peer))["accepted"]
    (stored,) = await checking.results(check)
    assert stored["message"] == "a\ufffdb"
    assert (stored["stdout"], stored["stderr"]) == (r"\u0000 is text", "\ufffd")
    assert stored["metrics"] == {"a\ufffd": 1}


async def test_a_result_that_cannot_be_taken_is_that_runs_error(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        for value in ("1e400", "1" * 400, "[" * 150 + "]" * 150):
            running = asyncio.create_task(instance.run(satellite))
            run_id = (await peer.hear("run_script"))["runId"]
            said = f'"runId": "{run_id}", "exitCode": 0, "sandbox": {{}}, "value": {value}'
            await peer.say(f'{{"type": "run_result", {said}}}')
            assert "cannot be taken" in (await running)["reason"], value
        await peer.say(Heartbeat(version="still here"))
        await instance.until(satellite, lambda shown: shown["version"] == "still here")


async def test_a_name_with_what_cannot_be_stored_is_refused_by_one_rule(instance: Instance) -> None:
    for body in (definition(name="a\0b"), definition(system="\ud800"), definition(script="\0")):
        answer = await instance.api.post(CHECKS, content=json.dumps(body), headers=JSON)
        assert answer.status_code == 422, answer.text
        assert "must not contain" in answer.text or "unicode" in answer.text
