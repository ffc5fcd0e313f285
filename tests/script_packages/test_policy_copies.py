"""What this instance knows of the policy without asking the database: read from it, and written over it, safely."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
import structlog
from ringfence import PluginContext
from ringfence.eventlog import read_stream, verify_stream
from ringfence.host import Host
from ringfence.sandbox import clear_policy_provider
from ringfence.scripts import clear_package_provider
from ringfence.testing import RunHost, client
from ringfence_script_packages.hooks import POLICY_STREAM
from ringfence_script_packages.policy_store import SandboxPolicies, StaleRevisionError
from sqlalchemy import text

from tests.shared_hosts import OWN, SHARED
from tests.waiting import until

pytestmark = SHARED

POLICY = "/api/script-packages/sandbox-policy"
CHANGE_ROW = "UPDATE plugin_configs SET value = CAST(:value AS jsonb), updated_at = :at"


@pytest_asyncio.fixture(loop_scope="module")
async def first(host: Host, http: httpx.AsyncClient) -> int:
    """The revision of a policy that the instance has written and heard of, with 11 seconds."""
    await until(lambda: host.runtime.tailer.live, "following the log")
    await put(http, 10)
    return int((await put(http, 11)).json()["revision"])


async def put(http: httpx.AsyncClient, seconds: int, match: str = "*") -> httpx.Response:
    policy = {"resources": {"cpuSeconds": seconds}}
    return await http.put(POLICY, json={"policy": policy}, headers={"If-Match": match})


async def change_unheard(host: Host, seconds: int) -> None:
    """Have the row say something else, of which no event ever told."""
    async with host.runtime.database.sessions.begin() as session:
        value = (await session.execute(text("SELECT value FROM plugin_configs"))).scalar_one()
        value["policy"]["resources"]["cpuSeconds"] = seconds
        at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
        value["updatedAt"] = at.isoformat()
        await session.execute(text(CHANGE_ROW), {"value": json.dumps(value), "at": at})


async def seconds_read(http: httpx.AsyncClient, **headers: str) -> int:
    answer = await http.get(POLICY, headers=headers)
    assert answer.status_code == 200
    return int(answer.json()["policy"]["resources"]["cpuSeconds"])


async def test_reading_asks_the_database_only_if_the_caller_wants_that(
    host: Host, http: httpx.AsyncClient, first: int
) -> None:
    await change_unheard(host, 12)

    assert await seconds_read(http) == 11
    assert await seconds_read(http, **{"Cache-Control": "max-age=0, No-Cache"}) == 12


@OWN
async def test_what_another_instance_was_told_is_read_as_soon_as_that_is_acknowledged(
    host: Host, http: httpx.AsyncClient, run_host: RunHost
) -> None:
    clear_policy_provider()
    clear_package_provider()
    async with client(await run_host()) as other:
        for seconds in range(11, 41):
            assert (await put(http, seconds)).status_code == 200
            assert await seconds_read(other, **{"Cache-Control": "no-cache"}) == seconds


async def test_the_policy_itself_is_not_read_again_while_it_is_what_this_instance_knows(
    host: Host, http: httpx.AsyncClient, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unread(*_: Any) -> None:
        raise AssertionError("the row was read")

    await until(lambda: host.runtime.tailer.live)
    monkeypatch.setattr(SandboxPolicies, "current", unread)
    assert await seconds_read(http, **{"Cache-Control": "no-cache"}) == 11


async def test_reading_asks_the_database_while_the_log_is_not_followed(
    host: Host, http: httpx.AsyncClient, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await change_unheard(host, 12)
    monkeypatch.setattr(type(host.runtime.tailer), "live", False)

    assert await seconds_read(http) == 12


async def test_a_change_is_laid_over_what_is_stored_even_where_that_is_not_what_was_heard(
    host: Host, http: httpx.AsyncClient, first: int
) -> None:
    await change_unheard(host, 12)

    answer = await http.patch(
        POLICY, json={"policy": {"resources": {"maxProcesses": 7}}}, headers={"If-Match": f'"{first}"'}
    )

    resources = answer.json()["policy"]["resources"]
    assert (resources["cpuSeconds"], resources["maxProcesses"]) == (12, 7)
    assert answer.json()["revision"] == first + 1


async def test_going_back_to_what_was_heard_is_a_change_where_something_else_is_stored(
    host: Host, http: httpx.AsyncClient, first: int
) -> None:
    await change_unheard(host, 12)

    answer = await put(http, 11)

    assert (answer.json()["changed"], answer.json()["revision"]) == (True, first + 1)


@OWN
async def test_what_a_newer_release_stored_is_not_written_over(host: Host, http: httpx.AsyncClient) -> None:
    await put(http, 11)
    async with host.runtime.database.sessions.begin() as session:
        await session.execute(text("UPDATE plugin_configs SET schema_version = 99"))

    with pytest.raises(Exception, match="written by a newer release"):
        await put(http, 12)

    async with host.runtime.database.sessions() as session:
        assert len(await read_stream(session, POLICY_STREAM)) == 1


async def test_a_write_is_one_exchange_with_the_database(
    host: Host, http: httpx.AsyncClient, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    execute, commit = psycopg.AsyncCursor.execute, psycopg.AsyncConnection.commit

    async def noted(cursor: Any, query: Any, *more: Any, **options: Any) -> Any:
        statements.append(" ".join(str(query).split()))
        return await execute(cursor, query, *more, **options)

    async def noted_commit(connection: Any) -> None:
        statements.append("COMMIT")
        await commit(connection)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", noted)
    monkeypatch.setattr(psycopg.AsyncConnection, "commit", noted_commit)
    answer = await put(http, 12, f'"{first}"')
    written = [one for one in statements if "ringfence_append" in one or "plugin_configs" in one]

    assert answer.json()["revision"] == first + 1
    assert len(written) == 1, statements


async def test_writers_that_have_heard_of_different_revisions_all_get_their_turn(
    host: Host, http: httpx.AsyncClient, first: int
) -> None:
    """As on several instances, each of which writes over what it has heard so far, which may be old."""
    [plugin] = host.plugins
    late = SandboxPolicies(PluginContext(plugin.registry, host.runtime, structlog.get_logger()))
    heard = await late.current()
    late.known = lambda: heard

    async def write_late(seconds: int) -> int:
        partial = {"resources": {"cpuSeconds": seconds}}
        return (await late.replace(partial, actor="ada", reason=None, expected=None)).state.revision

    async def write(seconds: int) -> int:
        return int((await put(http, seconds)).json()["revision"])

    revisions = await asyncio.gather(*((write, write_late)[n % 2](20 + n) for n in range(20)))

    assert sorted(revisions) == list(range(first + 1, first + 21))
    assert await seconds_read(http, **{"Cache-Control": "no-cache"}) == 20 + revisions.index(first + 20)
    async with host.runtime.database.sessions() as session:
        found = await verify_stream(session, POLICY_STREAM)
    assert found.misfit is None
    assert found.head is not None
    assert found.head.version == first + 20


async def test_a_stale_revision_is_refused_where_only_the_database_knows_that_it_is(
    host: Host, http: httpx.AsyncClient, first: int
) -> None:
    [plugin] = host.plugins
    late = SandboxPolicies(PluginContext(plugin.registry, host.runtime, structlog.get_logger()))
    heard = await late.current()
    late.known = lambda: heard
    await put(http, 12)

    with pytest.raises(StaleRevisionError) as refused:
        await late.replace({"resources": {"cpuSeconds": 13}}, actor="ada", reason=None, expected=first)

    assert refused.value.current.revision == first + 1
