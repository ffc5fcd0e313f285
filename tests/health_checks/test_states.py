"""What is shown of a check: never a state that is too old to be known; and what is told when that begins."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ringfence_health_checks.plugin import HealthChecksPlugin

from tests.health_checks.conftest import CHECKS, Checking, agent
from tests.health_checks.test_lists import sql
from tests.satellite.instances import SATELLITES, Instance, Registered
from tests.shared_hosts import SHARED
from tests.waiting import until_it

pytestmark = SHARED

SLOW = {"intervalSeconds": 3600, "timeoutSeconds": 10}


async def show(checking: Checking, check: dict[str, Any]) -> dict[str, Any]:
    answer = await checking.api.get(f"{CHECKS}/{check['id']}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def until(
    checking: Checking, check: dict[str, Any], holds: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The check as it is shown, once `holds` is true of that."""

    async def found() -> dict[str, Any] | None:
        shown = await show(checking, check)
        return shown if holds(shown) else None

    got = await until_it(found, "the check is shown as wanted", pause=0.05)
    assert got is not None
    return got


async def changes(checking: Checking, check: dict[str, Any]) -> list[dict[str, Any]]:
    """The changes of the check's settled state that were told, oldest first."""
    answer = await checking.api.get(
        "/api/host/events", params={"stream": f"health-check.{check['id']}", "limit": 500}
    )
    assert answer.status_code == 200, answer.text
    return [one["payload"] for one in answer.json()["events"] if one["hook"] == "health-state-changed"]


async def until_told(
    checking: Checking, check: dict[str, Any], *states: tuple[str | None, str]
) -> list[dict[str, Any]]:
    """The changes that were told, once they are these (from, to)."""

    async def found() -> list[dict[str, Any]]:
        told = await changes(checking, check)
        return told if [(one["from"], one["to"]) for one in told] == list(states) else []

    return await until_it(found, f"the changes {states} are told", pause=0.05)


async def test_a_check_that_is_placed_and_has_not_run_is_unknown(
    instance: Instance, checking: Checking
) -> None:
    await instance.register("one", tags=["web"])
    check = await checking.create(runsOn={"tags": ["web"]}, **SLOW)
    shown = await show(checking, check)
    assert (shown["status"], shown["counts"], shown["reason"]) == ("unknown", {"unknown": 1}, None)
    (place,) = shown["latest"]
    assert (place["status"], place["message"]) == ("unknown", "has not run yet")
    assert (place["executedAt"], place["stale"]) == (None, None)


PLACES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"tags": ["web"]}, {"tags": ["web"]}, {"tags": []}),
    ({"selector": "role=web"}, {"labels": {"role": "web"}}, {"labels": {"role": "db"}}),
    ({"selector": "role,!old"}, {"labels": {"role": ""}}, {"labels": {"old": ""}}),
]


async def test_a_check_that_is_placed_nowhere_is_unknown_until_a_satellite_comes_along(
    instance: Instance, checking: Checking
) -> None:
    for places, given, taken in PLACES:
        check = await checking.create(runsOn=places, **SLOW)
        shown = await show(checking, check)
        assert (shown["status"], shown["counts"], shown["latest"]) == ("unknown", {}, [])
        assert "no satellite" in shown["reason"]
        one = await instance.register("one", **given)
        shown = await until(checking, check, lambda it: it["counts"] == {"unknown": 1})
        assert (shown["reason"], [place["ranOn"] for place in shown["latest"]]) == (None, [one.id])
        answer = await instance.api.patch(f"{SATELLITES}/{one.id}", json=taken)
        assert answer.status_code == 200, answer.text
        await until(checking, check, lambda it: it["counts"] == {})
        await checking.delete(check)
        await instance.api.delete(f"{SATELLITES}/{one.id}")


async def test_a_disabled_check_has_no_state(checking: Checking) -> None:
    check = await checking.create()
    await until(checking, check, lambda it: it["status"] == "healthy")
    await checking.change(check, enabled=False)
    shown = await show(checking, check)
    assert shown["status"] == "disabled"
    assert shown["latest"][0]["stale"] is None, "what it has seen stays"
    await checking.change(check, enabled=True)
    await until(checking, check, lambda it: it["status"] == "healthy")


async def test_the_worst_of_its_places_is_the_state_of_a_check(
    instance: Instance, checking: Checking
) -> None:
    await instance.register("one", tags=["web"])
    check = await checking.create(runsOn={"core": True, "tags": ["web"]}, intervalSeconds=60)
    shown = await until(checking, check, lambda it: it["counts"].get("healthy"))
    assert (shown["status"], shown["counts"]) == ("unknown", {"healthy": 1, "unknown": 1})
    assert [place["status"] for place in shown["latest"]] == ["unknown", "healthy"]


async def kill(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


@pytest_asyncio.fixture(loop_scope="module")
async def satellite(instance: Instance) -> Registered:
    return await instance.register("berlin", tags=["web"])


@pytest.mark.slow
async def test_a_satellite_that_dies_leaves_no_healthy_state_behind(
    instance: Instance, checking: Checking, satellite: Registered, tmp_path: Path
) -> None:
    """The satellite counts as online for a minute; it is the results that do not come."""
    check = await checking.create(runsOn={"tags": ["web"]}, intervalSeconds=1, timeoutSeconds=9)
    async with agent(instance.url, satellite, tmp_path) as process:
        await until_told(checking, check, (None, "healthy"))
        await kill(process)
    shown = await until(checking, check, lambda it: it["status"] == "unknown")
    (place,) = shown["latest"]
    assert place["status"] == "unknown"
    assert "older than three intervals" in place["stale"]["reason"]
    assert place["stale"]["last"]["status"] == "healthy"
    assert place["stale"]["last"]["ageSeconds"] > 11.9
    assert (await instance.show(satellite))["status"] == "online"
    listed = (await checking.api.get(CHECKS)).json()["checks"][0]
    assert (listed["status"], listed["counts"]) == ("unknown", {"unknown": 1})
    latest = (await checking.api.get(f"{CHECKS}/{check['id']}/latest")).json()["latest"][0]
    assert latest["stale"]["reason"] == place["stale"]["reason"]
    _, stale = await until_told(checking, check, (None, "healthy"), ("healthy", "unknown"))
    assert (stale["stale"], stale["resultId"], stale["place"]) == (True, None, satellite.id)
    assert (stale["checkName"], stale["placeName"], stale["labels"]) == ("disk", "berlin", {"web": ""})


@pytest.mark.slow
async def test_a_satellite_that_says_goodbye_makes_its_checks_unknown_at_once(
    instance: Instance, checking: Checking, satellite: Registered, tmp_path: Path
) -> None:
    check = await checking.create(runsOn={"tags": ["web"]}, **SLOW)
    async with agent(instance.url, satellite, tmp_path):
        await until(checking, check, lambda it: it["status"] == "healthy")
    shown = await until(checking, check, lambda it: it["status"] == "unknown")
    assert shown["latest"][0]["stale"]["reason"] == "its satellite is offline"
    assert len(await changes(checking, check)) == 1, "it may be back at once: nothing is told yet"
    async with agent(instance.url, satellite, tmp_path):
        await until(checking, check, lambda it: it["status"] == "healthy")


@pytest.mark.slow
async def test_a_satellite_that_is_lost_and_comes_back_is_told_twice(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await instance.register("berlin", offlineAfterSeconds=2)
    check = await checking.create(runsOn={"satellites": [satellite.id]}, **SLOW)
    async with agent(instance.url, satellite, tmp_path) as process:
        await until(checking, check, lambda it: it["status"] == "healthy")
        await kill(process)
    told = [(None, "healthy"), ("healthy", "unknown")]
    *_, lost = await until_told(checking, check, *told)
    assert lost["message"] == "its satellite is offline"
    async with agent(instance.url, satellite, tmp_path):
        await until_told(checking, check, *told, ("unknown", "healthy"))


@pytest.mark.slow
async def test_a_fleet_tells_each_change_once(instance: Instance, other: Instance, tmp_path: Path) -> None:
    first, second = instance, other
    checking, satellite = Checking(first.api), await first.register("berlin")
    check = await checking.create(
        runsOn={"satellites": [satellite.id]}, intervalSeconds=0.5, timeoutSeconds=6, script="exit 1"
    )
    async with agent(second.url, satellite, tmp_path) as process:
        await until_told(checking, check, (None, "unhealthy"))
        await kill(process)
    told = [(None, "unhealthy"), ("unhealthy", "unknown")]
    await until_told(checking, check, *told)
    async with agent(first.url, satellite, tmp_path):
        await until_told(checking, check, *told, ("unknown", "unhealthy"))


async def test_nothing_is_told_of_a_time_in_which_no_result_could_arrive(
    instance: Instance, checking: Checking
) -> None:
    """What is shown says at once that nothing is known; an event has to wait until results could have come."""
    await instance.register("one", tags=["web"])
    check = await checking.create(runsOn={"tags": ["web"]}, **SLOW)
    (plugin,) = (one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=12)
    await sql(
        instance,
        "UPDATE health_checks_latest SET placed_at = :then WHERE check_id = CAST(:check AS uuid)",
        check=check["id"],
        then=long_ago,
    )
    shown = await show(checking, check)
    assert "has not run within" in shown["latest"][0]["stale"]["reason"]
    assert shown["latest"][0]["stale"]["last"] is None
    await plugin._watch.look(long_ago)
    assert await changes(checking, check) == [], "the fleet has heard satellites for moments only"
    await sql(instance, "UPDATE satellite_listeners SET steady_since = :then", then=long_ago)
    await plugin._watch.look(dt.datetime.now(dt.UTC))
    assert await changes(checking, check) == [], "this instance has led for moments only"
    await plugin._watch.look(long_ago)
    (told,) = await changes(checking, check)
    assert (told["from"], told["to"], told["status"], told["stale"]) == (None, "unknown", "unknown", True)
    await plugin._watch.look(long_ago)
    assert len(await changes(checking, check)) == 1, "once"


async def test_a_satellite_that_is_registered_beside_a_new_check_takes_none_of_its_places_away(
    instance: Instance, checking: Checking
) -> None:
    for number in range(6):
        await instance.register(f"web-{number}", tags=["web"])
        check = await checking.create(name=f"check-{number}", runsOn={"tags": ["web"]}, **SLOW)
        for _ in range(3):
            assert (await show(checking, check))["counts"] == {"unknown": number + 1}
