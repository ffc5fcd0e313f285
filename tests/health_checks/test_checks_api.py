"""Checks over HTTP: written, changed, run now, and only by those who may."""

from __future__ import annotations

import json
from typing import Any

from ringfence.scripts.tasks.task import MAX_SCRIPT
from ringfence.testing import client, eventually
from sqlalchemy import text

from tests.health_checks.conftest import CHECKS, Checking, definition
from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.shared_hosts import SHARED

pytestmark = SHARED


async def test_a_check_is_written_shown_changed_and_deleted(checking: Checking) -> None:
    made = await checking.create(intervalSeconds=3600, secrets=[])
    assert made["createdBy"] == made["updatedBy"]
    shown = (await checking.api.get(f"{CHECKS}/{made['id']}")).json()
    assert {key: shown[key] for key in definition()} == {
        **definition(),
        "intervalSeconds": 3600,
        "runsOn": {"core": True, "satellites": [], "tags": []},
    }
    changed = await checking.change(made, script="echo other", enabled=False)
    assert (changed["script"], changed["enabled"], changed["system"]) == ("echo other", False, "web-1")
    assert [one["name"] for one in (await checking.api.get(CHECKS)).json()["checks"]] == ["disk"]
    await checking.delete(made)
    assert (await checking.api.get(f"{CHECKS}/{made['id']}")).status_code == 404


CANNOT_BE: list[tuple[dict[str, Any], str]] = [
    ({"kind": "perl"}, "kind"),
    ({"intervalSeconds": 0}, "intervalSeconds"),
    ({"runsOn": {}}, "runsOn"),
    ({"runsOn": {"core": True, "cores": 2}}, "cores"),
    ({"runsOn": {"selector": "region in"}}, "at character 10: expected ("),
    ({"runsOn": {"selector": ""}}, "selector"),
    ({"runsOn": {"selector": 1}}, "selector"),
    ({"runsOn": {"selector": "!old"}, "secrets": ["API_TOKEN"]}, "satellites without any label"),
    ({"script": ""}, "script"),
    ({"script": "x" * (MAX_SCRIPT + 1)}, "script"),
    ({"secrets": ["not a name"]}, "secrets"),
    ({"name": "two\nlines"}, "name"),
    ({"policy": {}}, "policy"),
]


async def test_a_check_that_cannot_be_is_refused_and_says_where(checking: Checking) -> None:
    other = await checking.create(name="other")
    for fields, pointer in CANNOT_BE:
        for answer in (
            await checking.api.post(CHECKS, json=definition(**fields)),
            await checking.api.patch(f"{CHECKS}/{other['id']}", json=fields),
        ):
            assert answer.status_code == 422, fields
            assert pointer in answer.json()["detail"], fields


async def test_two_checks_cannot_have_one_name(checking: Checking) -> None:
    await checking.create(name="a")
    other = await checking.create(name="b")
    assert (await checking.api.post(CHECKS, json=definition(name="a"))).status_code == 409
    assert (await checking.api.patch(f"{CHECKS}/{other['id']}", json={"name": "a"})).status_code == 409


async def test_a_policy_of_its_own_is_taken_off_a_check_wherever_it_comes_from(
    instance: Instance, checking: Checking
) -> None:
    made = await checking.create(sandbox={"network": {"mode": "unrestricted"}}, intervalSeconds=3600)
    assert "sandbox" not in made
    assert instance.host.runtime is not None
    async with instance.host.runtime.database.sessions.begin() as session:
        stored = {**definition(), "sandbox": {"enabled": False}, "fromTheFuture": 1}
        await session.execute(
            text("UPDATE health_checks_checks SET definition = CAST(:it AS jsonb)"),
            {"it": json.dumps(stored)},
        )
    shown = (await checking.api.get(f"{CHECKS}/{made['id']}")).json()
    assert "sandbox" not in shown
    assert "sandbox" not in await checking.change(made, system="web-2")


async def test_each_route_needs_its_rule(instance: Instance, checking: Checking) -> None:
    made = await checking.create(intervalSeconds=3600)
    async with client(instance.host, rules=["health-checks.check.read"]) as reader:
        assert (await reader.get(CHECKS)).status_code == 200
        assert (await reader.post(CHECKS, json=definition(name="x"))).status_code == 403
        assert (await reader.post(f"{CHECKS}/{made['id']}/run")).status_code == 403
    async with client(instance.host, rules=["health-checks.check.manage"]) as manager:
        assert (await manager.get(CHECKS)).status_code == 403


async def test_who_may_not_use_secrets_cannot_have_a_check_told_one(
    instance: Instance, checking: Checking
) -> None:
    guarded = await checking.create(name="guarded", secrets=["API_TOKEN"], intervalSeconds=3600)
    plain = await checking.create(name="plain", intervalSeconds=3600)
    async with client(instance.host, rules=["health-checks.check.manage"]) as manager:
        refused = [
            await manager.post(CHECKS, json=definition(name="x", secrets=["API_TOKEN"])),
            await manager.patch(f"{CHECKS}/{plain['id']}", json={"secrets": ["API_TOKEN"]}),
            await manager.patch(f"{CHECKS}/{guarded['id']}", json={"script": "echo $API_TOKEN | rev"}),
        ]
        assert [answer.status_code for answer in refused] == [403, 403, 403]
        assert all(answer.json()["rule"] == "secrets.secret.use" for answer in refused)
        assert (await manager.post(CHECKS, json=definition(name="y"))).status_code == 201


async def test_a_change_is_an_event_with_its_actor_and_without_the_script(
    instance: Instance, checking: Checking
) -> None:
    made = await checking.create(script="echo a script that stays out of the log", intervalSeconds=3600)
    await checking.delete(made)
    assert instance.host.runtime is not None
    async with instance.host.runtime.database.sessions() as session:
        rows = (
            await session.execute(
                text("SELECT payload, actor FROM events WHERE stream = :it ORDER BY version"),
                {"it": f"health-check.{made['id']}"},
            )
        ).all()
    assert [row.payload["change"] for row in rows] == ["created", "deleted"]
    assert all(row.actor == made["createdBy"] for row in rows)
    assert "script that stays" not in str(rows)
    assert rows[0].payload["definition"]["scriptSha256"]


@requires("user namespaces")
async def test_a_check_is_run_now_where_it_is_placed(checking: Checking) -> None:
    script = 'echo \'{"status": "degraded", "message": "nearly full", "metrics": {"free": 3}}\''
    made = await checking.create(script=script, intervalSeconds=3600)
    [ran] = await checking.run(made)
    assert (ran["status"], ran["message"], ran["metrics"]) == ("degraded", "nearly full", {"free": 3.0})
    assert ran["ranOn"] == "core"
    assert ran["sandbox"]["enforced"]["network"]
    assert ran["id"] in [one["id"] for one in await checking.results(made)]
    refused = await checking.api.post(f"{CHECKS}/{made['id']}/run", json={"on": "nowhere"})
    assert refused.status_code == 409
    assert "it runs on core" in refused.json()["detail"]


async def test_an_unknown_check_is_not_found(checking: Checking) -> None:
    path = f"{CHECKS}/00000000-0000-0000-0000-000000000000"
    answers = [
        await checking.api.get(path),
        await checking.api.patch(path, json={}),
        await checking.api.delete(path),
        await checking.api.post(f"{path}/run"),
        await checking.api.get(f"{path}/results"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 5


async def test_who_deletes_a_secret_is_told_of_the_checks_that_use_it(
    instance: Instance, checking: Checking
) -> None:
    await checking.set_secret("API_TOKEN", "correct horse battery")
    far = {"intervalSeconds": 3600, "runsOn": {"tags": ["nowhere"]}}
    await checking.create(name="shop", secrets={"TOKEN": "{API_TOKEN}"}, **far)
    await checking.create(name="bank", secrets={"API_TOKEN": "{API_TOKEN}"}, **far)
    await checking.create(name="other", **far)

    async def users() -> dict[str, Any]:
        return dict((await instance.api.get("/api/secrets/secrets/API_TOKEN/users")).json())

    async def told() -> bool:
        return await users() == {"users": ["check bank", "check shop"], "count": 2}

    await eventually(told)
