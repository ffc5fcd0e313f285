"""Settled states, as results move them: once for the fleet, with the result that caused it."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import Any

from ringfence.scripts import Health, Verdict
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.results import Result, Results
from ringfence_satellite.protocol import CheckResult

from tests.health_checks.conftest import Checking
from tests.health_checks.test_lists import statements
from tests.health_checks.test_states import SLOW, changes, show
from tests.satellite.instances import Instance, Peer
from tests.shared_hosts import SHARED

pytestmark = SHARED

BEGIN = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=30)


async def report(peer: Peer, check: dict[str, Any], status: str, minute: float) -> str:
    """Have a satellite report a result of so many minutes after the beginning; answers its id once it is stored."""
    id = str(uuid.uuid4())
    await peer.say(
        CheckResult(
            config_id=check["id"],
            system_id="web-1",
            status=status,
            result={"status": status, "message": f"{status} at {minute:g}"},
            executed_at=(BEGIN + dt.timedelta(minutes=minute)).isoformat(),
            result_id=id,
        )
    )
    while (frame := await peer.hear())["type"] != "result_ack":
        pass
    assert frame == {"type": "result_ack", "resultId": id, "accepted": True}
    return id


async def moves(checking: Checking, check: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(one["from"], one["to"]) for one in await changes(checking, check)]


async def test_a_state_settles_after_results_in_a_row_and_late_ones_change_nothing(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("one", tags=["env=dev"])
    check = await checking.create(
        runsOn={"satellites": [satellite.id]}, failuresBeforeAlarm=3, successesBeforeRecovery=2, **SLOW
    )
    async with instance.connected(satellite) as peer:
        for minute, status in enumerate(("healthy", "unhealthy", "unhealthy")):
            await report(peer, check, status, minute)
        assert await moves(checking, check) == [(None, "healthy")]
        (place,) = (await show(checking, check))["latest"]
        assert (place["status"], place["settled"]["status"]) == ("unhealthy", "healthy")
        await report(peer, check, "unhealthy", 1.5)
        assert await moves(checking, check) == [(None, "healthy")], "it came late"
        third = await report(peer, check, "unhealthy", 3)
        _, told = await changes(checking, check)
        assert (told["from"], told["to"], told["message"]) == ("healthy", "unhealthy", "unhealthy at 3")
        assert (told["checkId"], told["checkName"], told["system"]) == (check["id"], "disk", "web-1")
        assert (told["place"], told["placeName"], told["labels"]) == (satellite.id, "one", {"env": "dev"})
        assert (told["resultId"], told["silenced"], told["flapping"]) == (third, False, False)
        assert dt.datetime.fromisoformat(told["since"]) == BEGIN + dt.timedelta(minutes=3)
        for minute, status in ((4, "healthy"), (5, "unhealthy"), (6, "healthy"), (7, "healthy")):
            await report(peer, check, status, minute)
        assert await moves(checking, check) == [
            (None, "healthy"),
            ("healthy", "unhealthy"),
            ("unhealthy", "healthy"),
        ]


async def test_a_place_that_flaps_holds_its_state_and_says_so(instance: Instance, checking: Checking) -> None:
    satellite = await instance.register("one")
    flapping = {"changes": 2, "windowSeconds": 300}
    check = await checking.create(runsOn={"satellites": [satellite.id]}, flapping=flapping, **SLOW)
    async with instance.connected(satellite) as peer:
        for minute, status in enumerate(
            ("healthy", "unhealthy", "healthy", "unhealthy", "healthy", "unhealthy")
        ):
            await report(peer, check, status, minute)
        told = await changes(checking, check)
        assert [(one["from"], one["to"], one["flapping"]) for one in told] == [
            (None, "healthy", False),
            ("healthy", "unhealthy", False),
            ("unhealthy", "healthy", False),
            ("healthy", "healthy", True),
        ]
        (place,) = (await show(checking, check))["latest"]
        assert (place["status"], place["settled"]["status"], place["flapping"]) == (
            "unhealthy",
            "healthy",
            True,
        )
        await report(peer, check, "unhealthy", 15)
        assert (await changes(checking, check))[-1]["to"] == "unhealthy"
        assert (await show(checking, check))["latest"][0]["flapping"] is False
        assert (await checking.change(check, flapping=None))["flapping"] is None


async def test_results_that_come_at_once_settle_once(instance: Instance, checking: Checking) -> None:
    check = await checking.create(runsOn={"tags": ["nowhere"]}, flapping=None, **SLOW)
    (plugin,) = (one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    results = Results(plugin._context)
    at = dt.datetime.now(dt.UTC)

    def result(status: Health) -> Result:
        return Result(
            uuid.UUID(check["id"]), "core", "web-1", Verdict(status, "", {}, (), ()), executed_at=at
        )

    for status in (Health.HEALTHY, Health.UNHEALTHY):
        assert all(await asyncio.gather(*(results.store(result(status)) for _ in range(8))))
    assert await moves(checking, check) == [(None, "healthy"), ("healthy", "unhealthy")]


async def test_a_result_that_changes_nothing_costs_one_statement(
    instance: Instance, checking: Checking
) -> None:
    check = await checking.create(runsOn={"tags": ["nowhere"]}, **SLOW)
    (plugin,) = (one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    results = Results(plugin._context)

    def result(status: Health) -> Result:
        return Result(uuid.UUID(check["id"]), "core", "web-1", Verdict(status, "", {}, (), ()))

    await results.store(result(Health.HEALTHY))
    for status, more in ((Health.HEALTHY, 0), (Health.UNHEALTHY, 2), (Health.UNHEALTHY, 0)):
        with statements(instance) as asked:
            await results.store(result(status))
        parts = ("INTO health_checks_results", "health_checks_silences", "SET settling")
        # Beside those of the leader, who looks for what is stale, and thins what is old.
        others = ("SKIP LOCKED", "DELETE FROM")
        own = [
            one
            for one, _ in asked
            if any(part in one for part in parts) and not any(part in one for part in others)
        ]
        assert len(own) == 1 + more, own
