"""Tries through the API of a real host: on the core and on a satellite, with and without secrets; nothing is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ringfence.testing import client
from sqlalchemy import text

from tests.health_checks.conftest import Checking, agent
from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.shared_hosts import SHARED

TRIES = "/api/health-checks/tries"
SECRET = "correct-horse-battery"
pytestmark = [SHARED, requires("user namespaces")]


async def tried(instance: Instance, **fields: Any) -> dict[str, Any]:
    body = {"name": "disk", "system": "web-1", "kind": "shell", "script": "echo fine", **fields}
    answer = await instance.api.post(TRIES, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_on_the_core_it_is_run_as_a_check_and_leaves_no_trace(instance: Instance) -> None:
    found = await tried(
        instance,
        script='echo "OK - $RINGFENCE_CHECK_NAME on $1 |x=3;5"; exit 0',
        format="nagios",
        args=["{satellite.name}"],
        assertions=["metric.x > 5 else degraded"],
    )
    assert (found["status"], found["on"], found["kind"], found["format"]) == (
        "degraded",
        "core",
        "shell",
        "nagios",
    )
    assert found["metrics"] == {"x": {"value": 3.0, "warn": "5"}}
    assert "OK - disk on core" in found["message"]
    assert found["run"]["sandbox"]["enforced"]["filesystem"] is True
    async with instance.host.runtime.database.sessions() as session:
        for table in ("checks", "results", "latest"):
            rows = await session.execute(text(f"SELECT count(*) FROM health_checks_{table}"))
            assert rows.scalar_one() == 0


async def test_whoever_may_have_scripts_given_secrets_has_them_on_the_core(
    instance: Instance, checking: Checking
) -> None:
    await checking.set_secret("DB_PASSWORD", SECRET)
    script = 'echo "$URL" | tr a-z b-za'
    found = await tried(instance, script=script, secrets={"URL": "app:{DB_PASSWORD}@db"})
    assert (found["message"], found["notes"]) == ("bqq:dpssfdu-ipstf-cbuufsz@ec", [])
    found = await tried(instance, secrets=["NONE_SUCH"])
    assert (found["status"], found["run"]) == ("unknown", None)
    assert "NONE_SUCH" in found["message"]


async def test_whoever_may_not_is_told_that_others_stand_in_for_them(
    instance: Instance, checking: Checking
) -> None:
    await checking.set_secret("DB_PASSWORD", SECRET)
    body = {
        "name": "x",
        "system": "x",
        "kind": "shell",
        "script": "echo $P",
        "secrets": {"P": "<{DB_PASSWORD}>"},
    }
    async with client(instance.host, rules=["health-checks.check.manage"]) as manager:
        answer = await manager.post(TRIES, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["message"] == "<***>"
        assert answer.json()["notes"] == [
            "given *** in place of DB_PASSWORD: whoever asked may not have scripts given any"
        ]
    async with client(instance.host, rules=["health-checks.check.run", "health-checks.check.read"]) as other:
        assert (await other.post(TRIES, json=body)).status_code == 403


@pytest.mark.slow
async def test_on_a_satellite_it_is_run_there_without_secrets(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    await checking.set_secret("PASSWORD", SECRET)
    satellite = await instance.register("berlin", tags=["web"], vars={"disk": "90"})
    async with agent(instance.url, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["status"] == "online")
        for place in ({"on": "berlin"}, {"on": satellite.id}, {"runsOn": {"tags": ["web"]}}):
            found = await tried(
                instance,
                script='echo "$1 at $2: $PASSWORD"',
                args=["{vars.disk}", "{satellite.name}"],
                secrets=["PASSWORD"],
                **place,
            )
            assert (found["status"], found["message"]) == ("healthy", "90 at berlin: ***")
            assert found["on"] == "berlin"
            assert found["notes"] == ["given *** in place of PASSWORD: a try on a satellite is given none"]
            assert found["run"]["sandbox"]["origin"]["source"] == "default"
    answer = await instance.api.post(
        TRIES, json={"name": "x", "system": "x", "kind": "shell", "script": "true", "on": "rome"}
    )
    assert (answer.status_code, "no satellite 'rome'" in answer.text) == (409, True)


async def test_what_is_no_trial_is_refused(instance: Instance) -> None:
    body = {"name": "x", "system": "x", "script": "true", "assertions": ["metric.x <"]}
    assert (await instance.api.post(TRIES, json=body)).status_code == 422
