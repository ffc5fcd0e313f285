"""What plugins' authors test with on a real host: databases, clients, stand-ins."""

from __future__ import annotations

import asyncio

import httpx
import psycopg
import pytest
from pydantic import BaseModel
from ringfence import Event, Hook, Mode, PluginContext
from ringfence.plugins.registry import PluginError
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch
from ringfence.testing import RunHost, StandIn, TestPostgres, client, eventually, installed, served
from ringfence_script_packages.hooks import SandboxPolicyChanged, sandbox_policy_changed

from tests.host.plugins import MadePlugin

HOST = [MigrationBranch("host", HOST_MIGRATIONS)]
INSERT = "INSERT INTO plugin_configs VALUES ('a', 'b', 1, '{}', now(), null)"


class Rung(BaseModel):
    times: int


rung = Hook("rung", Rung)


class Bell:
    """The interface of a service."""


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


async def test_the_next_test_gets_the_same_database_as_good_as_new(postgres: TestPostgres) -> None:
    first = await postgres.lend(HOST)
    with connect(first) as connection:
        connection.execute(INSERT)
    await postgres.give_back(first)
    second = await postgres.lend(HOST)
    assert second == first, "copied once, and then only emptied"
    with connect(second) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'alembic%'"
        ).fetchall()
        for (table,) in tables:
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,), table
        assert connection.execute("SELECT version_num FROM alembic_version_host").fetchone() is not None
    await postgres.give_back(second)


async def test_identities_start_again_from_one(postgres: TestPostgres) -> None:
    for _ in range(2):
        url = await postgres.lend(HOST)
        with connect(url) as connection:
            drawn = connection.execute(
                "SELECT nextval(format('%I.%I', schemaname, sequencename)::regclass) FROM pg_sequences"
            ).fetchall()
        assert set(drawn) == {(1,)}
        await postgres.give_back(url)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE left_behind (id int)",
        "ALTER TABLE plugin_configs ADD COLUMN left_behind int",
        "CREATE INDEX left_behind ON plugin_configs (updated_at)",
        "ALTER TABLE plugin_configs DROP CONSTRAINT plugin_configs_schema_version_check",
        "CREATE FUNCTION left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA left_behind",
    ],
)
async def test_a_database_whose_schema_was_changed_is_given_to_nobody_else(
    postgres: TestPostgres, change: str
) -> None:
    url = await postgres.lend(HOST)
    with connect(url) as connection:
        connection.execute(change.encode())
    await postgres.give_back(url)
    other = await postgres.lend(HOST)
    assert other != url
    await postgres.give_back(other)


async def test_whoever_is_still_connected_is_cut(postgres: TestPostgres) -> None:
    url = await postgres.lend(HOST)
    forgotten = connect(url)
    forgotten.execute("BEGIN")
    forgotten.execute(INSERT)
    await postgres.give_back(url)
    with pytest.raises(psycopg.OperationalError):
        forgotten.execute("SELECT 1")
    assert await postgres.lend(HOST) == url
    await postgres.give_back(url)


async def test_instances_of_one_test_share_its_database(run_host: RunHost) -> None:
    heard: list[int] = []

    async def hear(event: Event[Rung]) -> None:
        heard.append(event.payload.times)

    async def listen(context: PluginContext) -> None:
        context.on_hook(rung, hear)

    bell = StandIn("bell", hooks=[rung])
    await run_host(plugins=[bell])
    await run_host(plugins=[MadePlugin("ear", ready=listen)])
    await bell.emit(rung, Rung(times=3), actor="me")

    async def all_heard() -> bool:
        return heard == [3]

    await eventually(all_heard)


async def test_a_stand_in_emits_and_this_instance_has_heard_when_it_returns(run_host: RunHost) -> None:
    heard: list[Event[Rung]] = []

    async def hear(event: Event[Rung]) -> None:
        heard.append(event)

    async def listen(context: PluginContext) -> None:
        context.on_hook(rung, hear)

    bell = StandIn("bell", hooks=[rung])
    with pytest.raises(PluginError, match="the stand-in for bell emits rung before the host has started"):
        await bell.emit(rung, Rung(times=1))
    await run_host(plugins=[MadePlugin("ear", requires=("bell",), ready=listen), bell])
    await bell.emit(rung, Rung(times=2), actor="me", reason="why not")
    [event] = heard
    assert (event.payload.times, event.plugin, event.actor, event.reason) == (2, "bell", "me", "why not")


async def test_a_stand_in_waits_for_a_listener_that_the_others_do_not_wait_for(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.delivery.lanes.PATIENCE_SECONDS", 0.01)
    heard: list[int] = []

    async def hear_late(event: Event[Rung]) -> None:
        await asyncio.sleep(0.1)
        heard.append(event.payload.times)

    async def listen(context: PluginContext) -> None:
        context.on_hook(rung, hear_late)

    bell = StandIn("bell", hooks=[rung])
    await run_host(plugins=[MadePlugin("ear", ready=listen), bell])
    await bell.emit(rung, Rung(times=2))
    assert heard == [2]


async def test_a_stand_in_offers_fakes_by_interface(run_host: RunHost) -> None:
    found: list[Bell] = []
    fake = Bell()

    async def use(context: PluginContext) -> None:
        found.append(context.services.get(Bell))

    await run_host(
        plugins=[StandIn("bell", services={Bell: fake}), MadePlugin("user", requires=("bell",), ready=use)]
    )
    assert found == [fake]


def test_installed_plugins_come_with_what_they_require() -> None:
    assert {plugin.info.id for plugin in installed("satellite")} >= {"satellite", "script-packages"}
    with pytest.raises(PluginError, match=r"no plugin ghost is installed; there are: .*script-packages"):
        installed("ghost")


def test_a_first_party_plugin_that_fails_stops_the_start() -> None:
    ours = [one.info for one in installed("satellite", "script-packages")]
    assert not any(info.optional for info in ours)


async def test_a_client_holds_just_the_rules_that_the_test_chooses(run_host: RunHost) -> None:
    host = await run_host()
    async with (
        client(host) as admin,
        client(host, rules=["host.plugin.read"], name="ann") as ann,
        client(host, rules=()) as nobody,
    ):
        assert (await ann.get("/api/host/plugins")).status_code == 200
        assert (await ann.get("/api/host/tokens")).status_code == 403
        assert (await nobody.get("/api/host/plugins")).status_code == 403
        assert "ann" in {one["name"] for one in (await admin.get("/api/host/tokens")).json()["tokens"]}


async def test_an_instance_can_be_reached_over_a_socket(run_host: RunHost) -> None:
    host = await run_host()
    async with served(host) as url, httpx.AsyncClient() as http:
        assert (await http.get(f"{url}/healthz")).json()["instance"] == str(host.instance_id)


async def test_waiting_for_what_never_comes_says_what_there_was_instead() -> None:
    async def nothing() -> list[int]:
        return []

    with pytest.raises(AssertionError, match=r"still \[\] after 0.02 s"):
        await eventually(nothing, seconds=0.02)


async def test_the_mode_of_a_stand_ins_hook_is_checked_like_any_others(run_host: RunHost) -> None:
    async def hear(event: Event[Rung]) -> None: ...

    async def listen(context: PluginContext) -> None:
        context.on_hook(rung, hear, mode=Mode.INSTANCE_LOCAL)

    with pytest.raises(PluginError, match="hook rung cannot be subscribed to in mode instance-local"):
        await run_host(plugins=[StandIn("bell", hooks=[rung]), MadePlugin("ear", ready=listen)])


async def test_beside_the_one_policy_of_a_process_a_second_instance_hears_of_it_through_a_stand_in(
    run_host: RunHost,
) -> None:
    heard: list[int] = []

    async def listen(context: PluginContext) -> None:
        async def hear(event: Event[SandboxPolicyChanged]) -> None:
            heard.append(event.payload.revision)

        context.on_hook(sandbox_policy_changed, hear)

    first = await run_host(plugins=installed("script-packages"))
    policies = StandIn("script-packages", hooks=[sandbox_policy_changed])
    await run_host(plugins=[policies, MadePlugin("ear", ready=listen)])
    async with client(first) as admin:
        changed = {"policy": {"network": {"mode": "deny"}}}
        answer = await admin.put(
            "/api/script-packages/sandbox-policy", json=changed, headers={"If-Match": "*"}
        )
        answer.raise_for_status()

    async def told() -> bool:
        return heard == [1]

    await eventually(told)
