"""Silences: a change that nobody wants to be told of is still an event, and says so."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import uuid4

from ringfence.testing import client

from tests.health_checks.conftest import Checking
from tests.health_checks.test_alarms import report
from tests.health_checks.test_states import SLOW, changes, show
from tests.satellite.instances import Instance
from tests.shared_hosts import OWN, SHARED

pytestmark = SHARED

SILENCES = "/api/health-checks/silences"
HOUR = {"forSeconds": 3600, "reason": "a new disk"}


async def silence(checking: Checking, **fields: Any) -> dict[str, Any]:
    answer = await checking.api.post(SILENCES, json={**HOUR, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def listed(checking: Checking, **query: Any) -> list[dict[str, Any]]:
    answer = await checking.api.get(SILENCES, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["silences"]
    return found


async def test_changes_are_silenced_by_check_by_label_and_by_satellite(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("one", tags=["env=dev"])
    other = await instance.register("other", tags=["env=prod"])
    check = await checking.create(runsOn={"satellites": [satellite.id, other.id]}, flapping=None, **SLOW)
    wanted = [
        {"check": check["id"]},
        {"label": "env=dev"},
        {"satellite": satellite.id},
        {"check": check["id"], "label": "env=dev", "satellite": satellite.id},
        {"label": "env=prod"},
        {"check": check["id"], "satellite": other.id},
        {"satellite": "core"},
        {"check": check["id"], "from": "2030-01-01T00:00:00Z"},
    ]
    async with instance.connected(satellite) as peer:
        await report(peer, check, "healthy", 0)
        for minute, fields in enumerate(wanted, 1):
            made = await silence(checking, **fields)
            await report(peer, check, "unhealthy" if minute % 2 else "healthy", minute)
            places = {one["ranOn"]: one["silenced"] for one in (await show(checking, check))["latest"]}
            assert places[satellite.id] is (minute <= 4)
            ended = await checking.api.delete(f"{SILENCES}/{made['id']}")
            assert (ended.status_code, ended.json()["active"]) == (200, False)
        await report(peer, check, "unhealthy", 20)
    told = [one["silenced"] for one in await changes(checking, check)]
    assert told == [False, *[True] * 4, *[False] * 4, False]


@OWN
async def test_silences_are_kept_after_their_end_and_say_who_and_why(checking: Checking) -> None:
    check = await checking.create(runsOn={"tags": ["nowhere"]}, **SLOW)
    until = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)).isoformat()
    made = await silence(checking, label="a", forSeconds=None, until=until)
    assert dt.datetime.fromisoformat(made["until"]) == dt.datetime.fromisoformat(until)
    other = await silence(checking, check=check["id"])
    assert [one["id"] for one in await listed(checking)] == [other["id"], made["id"]], "newest first"
    assert (made["reason"], made["active"], made["endedBy"]) == ("a new disk", True, None)
    ended = (await checking.api.delete(f"{SILENCES}/{made['id']}")).json()
    assert ended["endedBy"] == made["createdBy"]
    assert (await checking.api.delete(f"{SILENCES}/{made['id']}")).status_code == 409
    assert (await checking.api.delete(f"{SILENCES}/{uuid4()}")).status_code == 404
    assert [one["id"] for one in await listed(checking)] == [other["id"]]
    assert [one["id"] for one in await listed(checking, ended="true")] == [other["id"], made["id"]]
    first = (await checking.api.get(SILENCES, params={"ended": "true", "limit": 1})).json()
    assert [one["id"] for one in await listed(checking, ended="true", after=first["next"])] == [made["id"]]
    events = (await checking.api.get("/api/host/events", params={"stream": "health-silences"})).json()[
        "events"
    ]
    told = [(one["payload"]["silenceId"], one["payload"]["change"]) for one in events]
    assert told == [(made["id"], "added"), (other["id"], "added"), (made["id"], "ended")]
    await checking.delete(check)
    assert await listed(checking) == [], "it goes with its check"


OF_NOTHING: list[tuple[dict[str, Any], int]] = [
    ({}, 422),
    ({"label": "a", "forSeconds": None}, 422),
    ({"label": "a", "until": "2030-01-01T00:00:00Z"}, 422),
    ({"label": "a", "forSeconds": -1}, 422),
    ({"label": "a", "reason": " "}, 422),
    (
        {
            "label": "a",
            "from": "2030-01-01T00:00:00Z",
            "until": "2029-01-01T00:00:00Z",
            "forSeconds": None,
        },
        422,
    ),
    ({"check": str(uuid4())}, 404),
    ({"satellite": str(uuid4())}, 404),
    ({"satellite": "rome"}, 404),
]


async def test_a_silence_of_nothing_is_refused(checking: Checking) -> None:
    for fields, status in OF_NOTHING:
        answer = await checking.api.post(SILENCES, json={**HOUR, **fields})
        assert answer.status_code == status, answer.text


async def test_silences_take_the_rules_of_checks(instance: Instance) -> None:
    body = {**HOUR, "label": "a"}
    async with client(instance.host, rules=["health-checks.check.read"]) as reader:
        assert (await reader.post(SILENCES, json=body)).status_code == 403
        assert (await reader.get(SILENCES)).status_code == 200
    async with client(instance.host, rules=["health-checks.check.manage"]) as manager:
        made = await manager.post(SILENCES, json=body)
        assert made.status_code == 201
        assert (await manager.get(SILENCES)).status_code == 403
        assert (await manager.delete(f"{SILENCES}/{made.json()['id']}")).status_code == 200
