"""What satellites are told to do, and what is taken from them: seen frame by frame."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any
from uuid import UUID

import pytest
from ringfence.testing import TestPostgres, client
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.protocol import CheckResult, RequestRunSecrets, StrategyError, frames_per_second
from sqlalchemy import text

from tests.health_checks.conftest import CHECKS, Checking, StartInstance
from tests.restoring import restorable, until_reached
from tests.satellite.instances import SATELLITES, Instance, Peer, Registered
from tests.shared_hosts import OWN, SHARED
from tests.waiting import until

pytestmark = SHARED

SLOW = {"intervalSeconds": 3600, "runsOn": {"tags": ["web"]}}


def result(check: dict[str, Any], **fields: Any) -> CheckResult:
    return CheckResult.model_validate(
        {
            "config_id": check["id"],
            "system_id": check["system"],
            "status": "healthy",
            "latency_ms": 1.5,
            "result": {"message": "fine", "metrics": {"n": 1}, "exitCode": 0, "stdout": "fine\n"},
            "executed_at": dt.datetime.now(dt.UTC).isoformat(),
            "result_id": str(uuid.uuid4()),
            **fields,
        }
    )


async def answered(peer: Peer, kind: str) -> dict[str, Any]:
    """The answer, a frame of that kind; the instance may hear only now of a check that was made just before."""
    while (frame := await peer.hear())["type"] == "config_updated":
        pass
    assert frame["type"] == kind
    return frame


async def acknowledged(peer: Peer) -> dict[str, Any]:
    return await answered(peer, "result_ack")


async def assigned(peer: Peer, kind: str = "config_updated") -> list[str]:
    return [one["configId"] for one in (await peer.hear(kind))["assignments"]]


async def test_a_satellite_is_told_what_it_is_assigned_when_it_connects(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("web", tags=["web"])
    by_tag = await checking.create(name="a", **SLOW)
    by_id = await checking.create(name="b", **SLOW | {"runsOn": {"satellites": [satellite.id]}})
    await checking.create(name="c", **SLOW | {"runsOn": {"tags": ["db"]}})
    await checking.create(name="d", **SLOW, enabled=False)
    expected = {by_tag["id"], by_id["id"]}
    async with instance.peer(satellite) as peer:
        # What was made just before may come behind the welcome: the instance hears of it as all others do.
        told = (await peer.hear("authenticated"))["assignments"]
        while {one["configId"] for one in told} != expected:
            told = (await peer.hear("config_updated"))["assignments"]
    async with instance.peer(satellite) as peer:
        welcome = await peer.hear("authenticated")
    assert {one["configId"] for one in welcome["assignments"]} == expected
    assert welcome["assignments"][0] == {
        "configId": by_tag["id"],
        "systemId": "web-1",
        "kind": "shell",
        "script": "echo fine",
        "task": {"format": "exit", "facts": {"check.name": "a", "check.system": "web-1"}},
        "intervalSeconds": 3600.0,
        "timeoutMs": 10_000,
        "needsSecrets": False,
    }
    assert welcome["acknowledgesResults"] is True


async def test_a_change_reaches_those_that_it_concerns_at_once_on_whichever_instance(
    instance: Instance, other: Instance, checking: Checking
) -> None:
    here, there = instance, other
    concerned = await here.register("web", tags=["web"])
    elsewhere = await here.register("db", tags=["db"])
    async with there.connected(concerned) as peer, there.connected(elsewhere) as bystander:
        check = await checking.create(**SLOW)
        assert await assigned(peer) == [check["id"]]
        await checking.change(check, script="echo other")
        assert (await peer.hear("config_updated"))["assignments"][0]["script"] == "echo other"
        await checking.change(check, runsOn={"tags": ["db"]})
        assert await assigned(peer) == []
        assert await assigned(bystander) == [check["id"]]
        await checking.delete(check)
        assert await assigned(bystander) == []


@OWN
async def test_checks_go_back_with_a_database_that_is_restored_under_a_running_instance(
    start_instance: StartInstance, postgres: TestPostgres
) -> None:
    async with restorable(postgres) as database:
        instance = await start_instance(database_url=database.url)
        (plugin,) = (
            one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin)
        )
        checking = Checking(instance.api)
        satellite = await instance.register("web", tags=["web"])
        check = await checking.create(**SLOW | {"runsOn": {"core": True, "tags": ["web"]}})
        await until(lambda: list(plugin._core._checks) == [check["id"]])
        await database.back_up()
        async with instance.peer(satellite) as peer:
            assert await assigned(peer, "authenticated") == [check["id"]]
            await until_reached(lambda: checking.delete(check))
            assert await assigned(peer) == []
            assert plugin._core._checks == {}
            await database.restore()
            assert (await peer.closed())[0] == 1013
        # No event tells of it: nobody has made the check since.
        await until(lambda: list(plugin._core._checks) == [check["id"]])
        async with instance.peer(satellite) as peer:
            assert await assigned(peer, "authenticated") == [check["id"]]


async def test_other_tags_mean_other_assignments(instance: Instance, checking: Checking) -> None:
    satellite = await instance.register("web")
    check = await checking.create(**SLOW)
    async with instance.connected(satellite) as peer:
        await instance.api.patch(f"{SATELLITES}/{satellite.id}", json={"tags": ["web"]})
        assert await assigned(peer) == [check["id"]]
        await instance.api.patch(f"{SATELLITES}/{satellite.id}", json={"tags": []})
        assert await assigned(peer) == []


async def test_a_check_runs_where_its_selector_says_and_follows_the_labels(
    instance: Instance, other: Instance, checking: Checking
) -> None:
    here, there = instance, other
    satellite = await here.register("web", labels={"region": "eu"})
    path = f"{SATELLITES}/{satellite.id}"
    selector = {"selector": "region=eu, role in (web, api)"}
    async with there.connected(satellite) as peer:
        check = await checking.create(**SLOW | {"runsOn": selector})
        assert check["runsOn"] == {"core": False, "satellites": [], "tags": [], **selector}
        await here.api.patch(path, json={"labels": {"role": "api"}})
        assert await assigned(peer) == [check["id"]]
        await here.api.patch(path, json={"labels": {"role": "db"}})
        assert await assigned(peer) == []
        await checking.change(check, runsOn={"selector": "role!=web"})
        assert await assigned(peer) == [check["id"]]
        await here.api.patch(path, json={"labels": {"role": None}})
        await here.api.patch(path, json={"tags": ["role=web"]})
        assert await assigned(peer) == []
        await checking.change(check, runsOn={"tags": ["role=web"]})
        assert await assigned(peer) == [check["id"]]


async def test_a_check_is_run_now_where_its_selector_says(instance: Instance, checking: Checking) -> None:
    for name, role in (("a", "web"), ("b", "db"), ("c", "web")):
        await instance.register(name, labels={"role": role})
    check = await checking.create(**SLOW | {"runsOn": {"selector": "role=web"}})
    assert [one["name"] for one in await checking.run(check)] == ["a", "c"]
    assert [one["name"] for one in await checking.run(check, on="c")] == ["c"]
    answer = await checking.api.post(f"{CHECKS}/{check['id']}/run", json={"on": "b"})
    assert answer.status_code == 409
    assert answer.json()["detail"].endswith("does not run on b; it runs on a, c")


async def test_secrets_go_by_labels_and_who_may_not_give_labels_gets_none(
    instance: Instance, checking: Checking
) -> None:
    await checking.set_secret("API_TOKEN", "a secret value")
    secret = {"secrets": ["API_TOKEN"], "runsOn": {"selector": "role=web,!old"}}
    check = await checking.create(**SLOW | secret)
    async with client(instance.host, rules=["satellite.satellite.manage"]) as http:
        refused = await http.post(SATELLITES, json={"name": "x", "region": "eu", "labels": {"role": "web"}})
        assert refused.status_code == 403
        made = (await http.post(SATELLITES, json={"name": "x", "region": "eu"})).json()
        satellite = Registered(made["satellite"]["id"], made["token"])
        path = f"{SATELLITES}/{satellite.id}"
        assert (await http.patch(path, json={"labels": {"role": "web"}})).status_code == 403
        async with instance.connected(satellite) as peer:
            await peer.say(RequestRunSecrets(request_id="1", config_id=check["id"]))
            assert "env" not in await answered(peer, "run_secrets")
            await instance.api.patch(path, json={"labels": {"role": "web", "old": ""}})
            assert (await http.patch(path, json={"labels": {"old": None}})).status_code == 403
            await instance.api.patch(path, json={"labels": {"old": None}})
            assert await assigned(peer) == [check["id"]]
            await peer.say(RequestRunSecrets(request_id="2", config_id=check["id"]))
            assert (await answered(peer, "run_secrets"))["env"] == {"API_TOKEN": "a secret value"}


async def test_a_result_is_acknowledged_and_stored_once_however_often_it_comes(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("web", tags=["web"])
    check = await checking.create(**SLOW)
    sent = result(check)
    for _ in range(2):
        async with instance.connected(satellite) as peer:
            for _ in range(2):
                await peer.say(sent)
                ack = await acknowledged(peer)
                assert (ack["resultId"], ack["accepted"]) == (sent.result_id, True)
    [stored] = await checking.results(check)
    assert (stored["id"], stored["ranOn"], stored["status"]) == (sent.result_id, satellite.id, "healthy")
    assert (stored["message"], stored["metrics"], stored["latencyMs"]) == ("fine", {"n": 1.0}, 1.5)


async def test_what_a_satellite_is_not_assigned_is_dropped_and_the_socket_stays(
    instance: Instance, checking: Checking
) -> None:
    rogue = await instance.register("rogue", tags=["db"])
    check = await checking.create(**SLOW)
    await checking.set_secret("API_TOKEN", "a secret value")
    guarded = await checking.create(name="guarded", **SLOW, secrets=["API_TOKEN"])
    async with instance.connected(rogue) as peer:
        for config_id in (check["id"], str(uuid.uuid4()), "not an id"):
            await peer.say(result(check, config_id=config_id))
            assert (await acknowledged(peer))["accepted"] is False
        await peer.say(StrategyError(strategy_id=check["id"], message="forged"))
        await peer.say(RequestRunSecrets(request_id="q", config_id=guarded["id"]))
        answer = await answered(peer, "run_secrets")
        assert "env" not in answer
        assert "no secrets" in answer["error"]
    assert await checking.results(check) == []


async def test_a_disabled_check_has_no_secrets_for_it_but_its_late_results_are_taken(
    instance: Instance, checking: Checking
) -> None:
    await checking.set_secret("API_TOKEN", "a secret value")
    satellite = await instance.register("web", tags=["web"])
    check = await checking.create(**SLOW, secrets=["API_TOKEN"])
    async with instance.connected(satellite) as peer:
        await checking.change(check, enabled=False)
        while await assigned(peer):
            pass
        await peer.say(result(check))
        assert (await acknowledged(peer))["accepted"]
        await peer.say(RequestRunSecrets(request_id="q", config_id=check["id"]))
        assert "env" not in await answered(peer, "run_secrets")


async def test_one_satellite_cannot_take_the_place_of_anothers_result(
    instance: Instance, checking: Checking
) -> None:
    check = await checking.create(**SLOW)
    honest = await instance.register("honest", tags=["web"])
    rogue = await instance.register("rogue", tags=["web"])
    shared_id = str(uuid.uuid4())
    for satellite, status in ((rogue, "unhealthy"), (honest, "healthy")):
        async with instance.connected(satellite) as peer:
            await peer.say(result(check, result_id=shared_id, status=status))
            await acknowledged(peer)
    found = {one["ranOn"]: one["status"] for one in await checking.results(check)}
    assert found == {rogue.id: "unhealthy", honest.id: "healthy"}


SAID: list[dict[str, Any]] = [
    {"status": "splendid"},
    {"executed_at": "yesterday"},
    {"executed_at": "9999-12-31T23:59:59+00:00"},
    {"result": {"message": "nul \0 and more", "stdout": "\0", "metrics": {"\0": 1}}},
    {"result": {"message": 7, "metrics": [1], "stdout": {}, "sandbox": "none", "exitCode": "x"}},
    {"result": {"sandbox": {"notes": ["x" * 100_000]}}},
    {"result": {"metrics": {str(n): n for n in range(500)}}},
    {"system_id": "another"},
]


async def test_nothing_that_a_satellite_says_stops_its_results(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("web", tags=["web"])
    for number, fields in enumerate(SAID):
        check = await checking.create(**{**SLOW, "name": f"check-{number}"})
        async with instance.connected(satellite) as peer:
            for sent in (result(check, **fields), result(check)):
                await peer.say(sent)
                assert (await acknowledged(peer))["accepted"]
        stored = await checking.results(check)
        assert len(stored) == 2, fields
        assert all(one["system"] == check["system"] for one in stored)
        assert all(dt.datetime.fromisoformat(one["executedAt"]) < dt.datetime.now(dt.UTC) for one in stored)


async def test_a_satellite_that_cannot_carry_it_out_says_so_in_the_results(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("web", tags=["web"])
    check = await checking.create(**SLOW)
    async with instance.connected(satellite) as peer:
        await peer.say(StrategyError(strategy_id=check["id"], message="no such kind here"))
        [stored] = await checking.until(check, len)
    assert (stored["status"], stored["message"]) == ("unknown", "no such kind here")


async def test_secrets_are_given_for_what_is_assigned_and_only_while_it_is(
    instance: Instance, checking: Checking
) -> None:
    await checking.set_secret("API_TOKEN", "a secret value")
    satellite = await instance.register("web", tags=["web"])
    guarded = await checking.create(name="guarded", **SLOW, secrets=["API_TOKEN"])
    lost = await checking.create(name="lost", **SLOW, secrets=["API_TOKEN", "GONE"])
    async with instance.connected(satellite) as peer:
        await peer.say(RequestRunSecrets(request_id="1", config_id=guarded["id"]))
        assert (await answered(peer, "run_secrets"))["env"] == {"API_TOKEN": "a secret value"}
        await peer.say(RequestRunSecrets(request_id="2", config_id=lost["id"]))
        answer = await answered(peer, "run_secrets")
        assert "env" not in answer
        assert "secret GONE does not exist" in answer["error"]
        await checking.change(guarded, runsOn={"tags": ["db"]})
        while await assigned(peer) != [lost["id"]]:
            pass
        await peer.say(RequestRunSecrets(request_id="3", config_id=guarded["id"]))
        assert "env" not in await answered(peer, "run_secrets")


async def test_old_results_are_deleted_and_the_newest_stays_known(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("web", tags=["web"])
    check = await checking.create(**SLOW)
    async with instance.connected(satellite) as peer:
        for _ in range(3):
            await peer.say(result(check))
            await acknowledged(peer)
    assert instance.host.runtime is not None
    sessions = instance.host.runtime.database.sessions
    async with sessions.begin() as session:
        await session.execute(
            text(
                "UPDATE health_checks_results SET received_at = now() - interval '2 days' WHERE id <> :kept"
            ),
            {"kept": (await checking.results(check))[0]["id"]},
        )
    from ringfence_health_checks.plugin import HealthChecksPlugin

    (plugin,) = (one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    assert await plugin._results.thin(keep_seconds=86_400) == 2
    assert len(await checking.results(check)) == 1
    shown = (await checking.api.get(f"/api/health-checks/checks/{check['id']}")).json()
    assert [one["ranOn"] for one in shown["latest"]] == [satellite.id]
    await instance.api.delete(f"{SATELLITES}/{satellite.id}")


async def test_a_satellite_may_say_as_much_as_its_schedules_make_it_say(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register(tags=["web"])
    often = [
        await checking.create(name=f"often-{n}", runsOn={"tags": ["web"]}, intervalSeconds=0.2)
        for n in range(8)
    ]
    async with instance.connected(satellite):
        connection = instance.plugin._relay.connection_of(UUID(satellite.id))
        assert connection is not None

        def allowed() -> float:
            return connection._allowance._per_second

        await until(lambda: allowed() == pytest.approx(frames_per_second(40)), "the limit follows")
        for check in often[1:]:
            await checking.delete(check)
        await until(lambda: allowed() == pytest.approx(frames_per_second(5)), "the limit follows")
