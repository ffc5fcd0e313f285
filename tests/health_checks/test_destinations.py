"""Where checks connect to is kept with their results, counted within bounds, and missed by nobody who takes it away."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox.egress.record import EgressRecord
from ringfence.scripts.tasks.kept_result import MAX_DESTINATIONS
from ringfence.testing import eventually
from ringfence_health_checks.destinations.table import MOST_OF_PLACE
from ringfence_health_checks.destinations.tried import Count, Destination, Tried, tried
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.results import Results
from sqlalchemy import text

from tests.health_checks.conftest import SECONDS, Checking, agent
from tests.health_checks.test_assignments import acknowledged, result
from tests.primitives import requires
from tests.satellite.instances import POLICY, SATELLITES, Instance
from tests.shared_hosts import SHARED

SUGGESTIONS = "/api/health-checks/suggestions"
SLOW = {"intervalSeconds": 3600, "runsOn": {"tags": ["web"]}}
API = {"name": "api.example.com", "address": "192.0.2.7", "port": 443, "protocol": "tcp"}
USED = {**API, "connections": 2, "sent": 10, "received": 20}
REFUSED = {"address": "192.0.2.9", "port": 22, "protocol": "tcp", "count": 3, "why": "not allowed"}
RECORD: dict[str, Any] = {"names": [], "used": [USED], "refused": [REFUSED], "more": {}}


def record(**lists: Any) -> dict[str, Any]:
    return {**RECORD, **lists}


# What a record counts as --------------------------------------------------------------------------------


def test_a_destination_counts_by_its_name_if_it_has_one() -> None:
    assert tried(RECORD) == [
        Count(Destination(Tried.REFUSED, "tcp", "192.0.2.9", 22), 3),
        Count(Destination(Tried.USED, "tcp", "api.example.com", 443), 2),
    ]


def test_a_refused_address_has_the_name_that_was_answered_with_it() -> None:
    names = [{"name": "DB.internal.", "answered": ["192.0.2.9"], "count": 1}]
    [found] = tried(record(names=names, used=[]))
    assert found.destination.host == "db.internal"


def test_a_name_that_was_refused_counts_as_looked_up() -> None:
    names = [
        {"name": "x.example.com", "answered": "refused", "count": 4},
        {"name": "y", "answered": "nxdomain", "count": 1},
    ]
    assert tried(record(names=names, used=[], refused=[])) == [
        Count(Destination(Tried.REFUSED, "dns", "x.example.com", 0), 4)
    ]


def test_what_was_tried_at_several_addresses_of_a_name_counts_together() -> None:
    other = {**USED, "address": "192.0.2.8", "connections": 0, "failed": "timed out", "count": 5}
    assert tried(record(used=[USED, other], refused=[]))[0].times == 7


@pytest.mark.parametrize("told", [None, [], "x", {"used": 1}, {"used": [{}]}, {"names": [{"name": 1}]}])
def test_what_is_no_record_counts_for_nothing(told: object) -> None:
    assert tried(told) == []


def test_what_is_kept_of_a_long_record_is_its_beginning_and_how_much_more_there_was() -> None:
    refused = [{**REFUSED, "port": port} for port in range(1, 121)]
    kept = EgressRecord.model_validate(record(refused=refused, more={"refused": 7})).first(MAX_DESTINATIONS)
    assert (len(kept.refused), kept.more.refused) == (MAX_DESTINATIONS, 7 + 120 - MAX_DESTINATIONS)


# What becomes of it -------------------------------------------------------------------------------------


@asynccontextmanager
async def reporting(instance: Instance, checking: Checking) -> AsyncIterator[Any]:
    """A satellite that reports what it was told on a check: answers how to report, and the check."""
    satellite = await instance.register("web", tags=["web"])
    check = await checking.create(**SLOW)
    async with instance.peer(satellite) as peer:
        await peer.hear("authenticated")

        async def report(egress: object, **fields: Any) -> None:
            told = {"message": "fine", "metrics": {}, "exitCode": 0, "stdout": "fine\n", "egress": egress}
            await peer.say(result(check, result=told, **fields))
            await acknowledged(peer)

        yield report, check, satellite


async def rows(instance: Instance) -> list[tuple[Any, ...]]:
    async with instance.host.runtime.database.sessions() as session:
        found = await session.execute(
            text(
                "SELECT outcome, protocol, host, port, tries, runs FROM health_checks_destinations ORDER BY 1, 3"
            )
        )
        return [tuple(row) for row in found]


@SHARED
async def test_a_satellites_record_is_kept_with_its_result_and_counted_once(
    instance: Instance, checking: Checking
) -> None:
    async with reporting(instance, checking) as (report, check, _):
        id = str(uuid.uuid4())
        for _ in range(2):  # it comes twice
            await report(RECORD, result_id=id)
        await report(RECORD)
        [newest, _] = await checking.results(check)
    assert newest["egress"]["used"] == [USED]
    assert newest["egress"]["refused"] == [REFUSED]
    assert await rows(instance) == [
        ("refused", "tcp", "192.0.2.9", 22, 6, 2),
        ("used", "tcp", "api.example.com", 443, 4, 2),
    ]


NO_RECORDS: list[object] = [
    "x",
    {"used": "x"},
    {"used": [{**USED, "port": 70_000}]},
    {"used": [{**USED, "address": "x" * 300}]},
    {"refused": [REFUSED] * 201},
    {"refused": [{**REFUSED, "count": -1}]},
]


@SHARED
async def test_a_record_that_cannot_be_right_costs_the_result_nothing(
    instance: Instance, checking: Checking
) -> None:
    async with reporting(instance, checking) as (report, check, _):
        for number, told in enumerate(NO_RECORDS, 1):
            await report(told)
            found = await checking.results(check)
            assert len(found) == number
            assert (found[0]["status"], "egress" in found[0]) == ("healthy", False), told
            assert await rows(instance) == []


@SHARED
async def test_the_largest_counts_and_what_cannot_be_stored_do_no_harm(
    instance: Instance, checking: Checking
) -> None:
    most = {**REFUSED, "address": "a\0b\ud800", "count": 2**53 - 1}
    async with reporting(instance, checking) as (report, check, _):
        for _ in range(3):
            await report(json.loads(json.dumps(record(used=[], refused=[most]))))
        assert len(await checking.results(check)) == 3
    [found] = await rows(instance)
    assert found[4:] == (2**53 - 1, 3)


@SHARED
async def test_a_script_that_tries_ever_other_destinations_takes_bounded_room(
    instance: Instance, checking: Checking
) -> None:
    async with reporting(instance, checking) as (report, _, _):
        for start in range(0, 400, 50):
            refused = [{**REFUSED, "port": start + n + 1} for n in range(50)]
            await report(record(used=[], refused=refused))
        assert len(await rows(instance)) == MOST_OF_PLACE
        await report(record(used=[], refused=[{**REFUSED, "port": 1}]))
        counted = {row[3]: row[5] for row in await rows(instance)}
    assert (counted[1], len(counted)) == (2, MOST_OF_PLACE), "what is there already goes on being counted"


@SHARED
async def test_it_goes_with_its_check_its_satellite_and_its_age(
    instance: Instance, checking: Checking
) -> None:
    async with reporting(instance, checking) as (report, check, satellite):
        await report(RECORD)
    (plugin,) = (one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    results: Results = plugin._results
    await results.thin(keep_seconds=3600)
    assert len(await rows(instance)) == 2
    await results.thin(keep_seconds=0)
    assert await rows(instance) == []

    async with reporting_again(instance, check, satellite) as report:
        await report()
        assert len(await rows(instance)) == 2
    await instance.api.delete(f"{SATELLITES}/{satellite.id}")

    async def gone() -> bool:
        return await rows(instance) == []

    await eventually(gone, seconds=SECONDS)

    other = await checking.create(name="other", intervalSeconds=3600, runsOn={"core": True})
    async with instance.host.runtime.database.sessions.begin() as session:
        await session.execute(
            text(
                "INSERT INTO health_checks_destinations VALUES "
                "(:id, 'core', 'used', 'tcp', 'x', 1, 1, 1, now(), now())"
            ),
            {"id": other["id"]},
        )
    await checking.delete(other)
    assert await rows(instance) == []


@asynccontextmanager
async def reporting_again(instance: Instance, check: dict[str, Any], satellite: Any) -> AsyncIterator[Any]:
    async with instance.peer(satellite) as peer:
        await peer.hear("authenticated")

        async def report() -> None:
            await peer.say(result(check, result={"message": "fine", "metrics": {}, "egress": RECORD}))
            await acknowledged(peer)

        yield report


# The real thing -----------------------------------------------------------------------------------------

CONNECT = """
import socket
socket.create_connection(("127.0.0.1", PORT), 10).close()
try:
    socket.getaddrinfo("secret.example.com", 443)
except OSError:
    pass
print("looked")
"""


@asynccontextmanager
async def service() -> AsyncIterator[int]:
    """A service of this machine; answers its port."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@requires("root", "user namespaces", "relay")
@pytest.mark.slow
async def test_a_real_agents_check_tells_what_it_used_and_what_it_was_refused(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await instance.register("edge")
    async with service() as allowed, agent(instance.url, satellite, tmp_path):
        await instance.set_policy({"network": {"allow": [f"localhost:{allowed}"]}})
        await instance.until(satellite, lambda shown: shown["appliedRevision"] == 1)
        check = await checking.create(
            kind="python",
            script=CONNECT.replace("PORT", str(allowed)),
            intervalSeconds=3600,
            timeoutSeconds=60,
            runsOn={"satellites": [satellite.id]},
        )
        [found] = (await checking.until(check, lambda results: results))[:1]
        assert found["status"] == "healthy", found["message"]
        [used] = found["egress"]["used"]
        assert (used["address"], used["port"], used["connections"]) == ("localhost", allowed, 1)
        answer = (await instance.api.get(SUGGESTIONS)).json()
    entries = {one["entry"]: one for one in answer["allow"]}
    assert set(entries) == {"secret.example.com:443"}
    assert entries["secret.example.com:443"]["guessed"]
    [needs] = answer["needs"]
    assert set(needs["needs"]["network"]) == {f"localhost:{allowed}", "secret.example.com:443"}

    preview = await instance.api.post(f"{POLICY}/preview", json={"policy": {"network": {"mode": "deny"}}})
    [checks] = [one for one in preview.json()["prospects"] if one["kind"] == "check"]
    [lost] = checks["named"]
    assert (lost["name"], lost["fate"], lost["breaks"]) == (check["name"], "cut-off", True)
    assert f"it has used localhost:{allowed} in 1 run" in lost["reasons"][0]

    patched = await instance.api.patch(POLICY, json={"policy": answer["patch"]})
    assert patched.status_code == 200, patched.text
    assert (await instance.api.get(SUGGESTIONS)).json()["allow"] == []
