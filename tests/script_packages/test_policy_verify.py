"""A revision that was changed behind Ringfence's back is found and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from ringfence.host import Host
from ringfence.testing import client
from sqlalchemy import text

from tests.shared_hosts import SHARED

POLICY = "/api/script-packages/sandbox-policy"
REHASH = """
    UPDATE events SET hash = ringfence_event_hash(
        coalesce((SELECT hash FROM events AS previous WHERE previous.stream = events.stream
                   AND previous.version = events.version - 1), ''), stream, version, hook, plugin, payload, actor,
        reason, occurred_at) WHERE version = :v
"""
BACK = (
    "SET LOCAL session_replication_role = replica",
    "DELETE FROM events WHERE version = 2",
    "INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM kept_events WHERE version = 2",
)
MENDED = pytest.mark.usefixtures("mended")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def written(shared_host: Host) -> None:
    """The shared host has four revisions."""
    async with client(shared_host) as http:
        await write_four(http)


async def write_four(http: httpx.AsyncClient) -> None:
    for seconds in (1, 2, 3, 4):
        await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": seconds}}, "reason": "é\u2028"})


@pytest_asyncio.fixture(loop_scope="module")
async def mended(shared_host: Host, written: None) -> AsyncIterator[None]:
    """After the test what it has tampered with is as it was."""
    await tamper(
        shared_host,
        "CREATE TABLE kept_events AS TABLE events",
        "CREATE TABLE kept_configs AS TABLE plugin_configs",
    )
    yield
    await tamper(
        shared_host,
        "SET LOCAL session_replication_role = replica",
        "DELETE FROM events",
        "INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM kept_events",
        "DELETE FROM plugin_configs",
        "INSERT INTO plugin_configs SELECT * FROM kept_configs",
        "DROP TABLE kept_events",
        "DROP TABLE kept_configs",
    )


async def tamper(host: Host, *statements: str, **values: object) -> None:
    async with host.runtime.database.sessions.begin() as session:
        for statement in statements:
            await session.execute(text(statement), values)


async def verify(http: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    answer = await http.get(f"{POLICY}/verify", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["intact"] == (found["problem"] is None)
    return found


async def test_an_untouched_policy_is_intact_and_its_head_can_be_noted(http: httpx.AsyncClient) -> None:
    assert await verify(http) == {"intact": True, "head": None, "problem": None}, "nobody has written one"
    await write_four(http)
    found = await verify(http)
    assert found["problem"] is None
    assert found["head"]["revision"] == 4
    anchor = f"4:{found['head']['hash']}"
    await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": 5}}})
    assert (await verify(http, anchor=anchor))["intact"]


CHANGES = [
    "payload = jsonb_set(payload, '{policy,network,mode}', '\"unrestricted\"')",
    "actor = 'mallory'",
    "reason = NULL",
    "occurred_at = occurred_at + interval '1 microsecond'",
    "hook = 'another'",
    "plugin = 'another'",
    "hash = sha256('x')",
]


@SHARED
@MENDED
async def test_a_changed_revision_is_named(host: Host, http: httpx.AsyncClient) -> None:
    for change in CHANGES:
        await tamper(host, f"UPDATE events SET {change} WHERE version = 2")
        found = await verify(http)
        assert found["problem"]["revision"] == 2, change
        assert "does not fit its hash" in found["problem"]["what"]
        await tamper(host, *BACK)
        assert (await verify(http))["intact"], change


@SHARED
@MENDED
async def test_a_changed_revision_whose_hash_was_mended_shows_at_the_next_one(
    host: Host, http: httpx.AsyncClient
) -> None:
    await tamper(host, "UPDATE events SET actor = 'mallory' WHERE version = 2", REHASH, v=2)
    assert (await verify(http))["problem"]["revision"] == 3


@SHARED
@MENDED
async def test_a_removed_revision_is_named(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(host, "DELETE FROM events WHERE version = 2")
    problem = (await verify(http))["problem"]
    assert (problem["revision"], problem["what"]) == (2, "is missing: the next one there is 3")


@SHARED
@MENDED
async def test_a_renumbered_stream_is_found(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(
        host,
        "DELETE FROM events WHERE version = 2",
        "UPDATE events SET version = 2 WHERE version = 3",
        "UPDATE events SET version = 3 WHERE version = 4",
    )
    assert (await verify(http))["problem"]["revision"] == 2


async def test_the_function_that_writes_the_hashes_is_not_asked(host: Host, http: httpx.AsyncClient) -> None:
    await write_four(http)
    await tamper(
        host,
        """CREATE OR REPLACE FUNCTION ringfence_event_hash(
               a_previous bytea, a_stream text, a_version bigint, a_hook text, a_plugin text, a_payload jsonb,
               a_actor text, a_reason text, a_occurred_at timestamptz) RETURNS bytea LANGUAGE sql IMMUTABLE
           AS $$ SELECT sha256('anything') $$""",
        "UPDATE events SET actor = 'mallory', hash = sha256('anything') WHERE version = 2",
    )
    assert (await verify(http))["problem"]["revision"] == 2


@SHARED
@MENDED
async def test_a_changed_row_is_found(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(host, "UPDATE plugin_configs SET value = jsonb_set(value, '{policy,enabled}', 'false')")
    problem = (await verify(http))["problem"]
    assert (problem["revision"], problem["where"]) == (None, "The stored row")
    assert problem["what"] == "is not what the newest revision says"
    await http.post(f"{POLICY}/rebuild")
    assert (await verify(http))["intact"]


@SHARED
@MENDED
async def test_a_lost_row_is_found(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(host, "DELETE FROM plugin_configs")
    assert "is missing" in (await verify(http))["problem"]["what"]


@SHARED
@MENDED
async def test_what_the_chain_alone_cannot_show_an_anchor_does(host: Host, http: httpx.AsyncClient) -> None:
    anchor = f"4:{(await verify(http))['head']['hash']}"
    await tamper(host, "DELETE FROM events WHERE version = 4")
    await http.post(f"{POLICY}/rebuild")
    assert (await verify(http))["intact"], "from the end, and with the row, one can be taken away unseen"
    problem = (await verify(http, anchor=anchor))["problem"]
    assert (problem["revision"], problem["what"]) == (4, "is missing, though its hash was noted")


@SHARED
@MENDED
async def test_a_chain_that_was_written_anew_does_not_fit_its_anchor(
    host: Host, http: httpx.AsyncClient
) -> None:
    anchor = f"4:{(await verify(http))['head']['hash']}"
    await tamper(host, "UPDATE events SET reason = 'forged' WHERE version = 2")
    for version in (2, 3, 4):
        await tamper(host, REHASH, v=version)
    assert (await verify(http))["intact"]
    assert (await verify(http, anchor=anchor))["problem"]["revision"] == 4


@SHARED
@MENDED
async def test_an_anchor_that_is_none_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"{POLICY}/verify", params={"anchor": "4"})).status_code == 422
