"""A revision that was changed behind Ringfence's back is found and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ringfence.host import Host
from ringfence.testing import RunHost, client
from sqlalchemy import text

POLICY = "/api/script-packages/sandbox-policy"
REHASH = """
    UPDATE events SET hash = ringfence_event_hash(
        coalesce((SELECT hash FROM events AS previous WHERE previous.stream = events.stream
                   AND previous.version = events.version - 1), ''), stream, version, hook, plugin, payload, actor,
        reason, occurred_at) WHERE version = :v
"""


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host()


@pytest.fixture
async def http(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as http:
        for seconds in (1, 2, 3, 4):
            await http.patch(
                POLICY, json={"policy": {"resources": {"cpuSeconds": seconds}}, "reason": "é\u2028"}
            )
        yield http


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
    found = await verify(http)
    assert found["problem"] is None
    assert found["head"]["revision"] == 4
    anchor = f"4:{found['head']['hash']}"
    await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": 5}}})
    assert (await verify(http, anchor=anchor))["intact"]


async def test_a_policy_that_nobody_has_written_is_intact(run_host: RunHost) -> None:
    async with client(await run_host()) as http:
        assert await verify(http) == {"intact": True, "head": None, "problem": None}


@pytest.mark.parametrize(
    "change",
    [
        "payload = jsonb_set(payload, '{policy,network,mode}', '\"unrestricted\"')",
        "actor = 'mallory'",
        "reason = NULL",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "hook = 'another'",
        "plugin = 'another'",
        "hash = sha256('x')",
    ],
)
async def test_a_changed_revision_is_named(host: Host, http: httpx.AsyncClient, change: str) -> None:
    await tamper(host, f"UPDATE events SET {change} WHERE version = 2")
    found = await verify(http)
    assert found["problem"]["revision"] == 2
    assert "does not fit its hash" in found["problem"]["what"]


async def test_a_changed_revision_whose_hash_was_mended_shows_at_the_next_one(
    host: Host, http: httpx.AsyncClient
) -> None:
    await tamper(host, "UPDATE events SET actor = 'mallory' WHERE version = 2", REHASH, v=2)
    assert (await verify(http))["problem"]["revision"] == 3


async def test_a_removed_revision_is_named(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(host, "DELETE FROM events WHERE version = 2")
    problem = (await verify(http))["problem"]
    assert (problem["revision"], problem["what"]) == (2, "is missing: the next one there is 3")


async def test_a_renumbered_stream_is_found(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(
        host,
        "DELETE FROM events WHERE version = 2",
        "UPDATE events SET version = 2 WHERE version = 3",
        "UPDATE events SET version = 3 WHERE version = 4",
    )
    assert (await verify(http))["problem"]["revision"] == 2


async def test_the_function_that_writes_the_hashes_is_not_asked(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(
        host,
        """CREATE OR REPLACE FUNCTION ringfence_event_hash(
               a_previous bytea, a_stream text, a_version bigint, a_hook text, a_plugin text, a_payload jsonb,
               a_actor text, a_reason text, a_occurred_at timestamptz) RETURNS bytea LANGUAGE sql IMMUTABLE
           AS $$ SELECT sha256('anything') $$""",
        "UPDATE events SET actor = 'mallory', hash = sha256('anything') WHERE version = 2",
    )
    assert (await verify(http))["problem"]["revision"] == 2


async def test_a_changed_row_is_found(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(host, "UPDATE plugin_configs SET value = jsonb_set(value, '{policy,enabled}', 'false')")
    problem = (await verify(http))["problem"]
    assert (problem["revision"], problem["where"]) == (None, "The stored row")
    assert problem["what"] == "is not what the newest revision says"
    await http.post(f"{POLICY}/rebuild")
    assert (await verify(http))["intact"]


async def test_a_lost_row_is_found(host: Host, http: httpx.AsyncClient) -> None:
    await tamper(host, "DELETE FROM plugin_configs")
    assert "is missing" in (await verify(http))["problem"]["what"]


async def test_what_the_chain_alone_cannot_show_an_anchor_does(host: Host, http: httpx.AsyncClient) -> None:
    anchor = f"4:{(await verify(http))['head']['hash']}"
    await tamper(host, "DELETE FROM events WHERE version = 4")
    await http.post(f"{POLICY}/rebuild")
    assert (await verify(http))["intact"], "from the end, and with the row, one can be taken away unseen"
    problem = (await verify(http, anchor=anchor))["problem"]
    assert (problem["revision"], problem["what"]) == (4, "is missing, though its hash was noted")


async def test_a_chain_that_was_written_anew_does_not_fit_its_anchor(
    host: Host, http: httpx.AsyncClient
) -> None:
    anchor = f"4:{(await verify(http))['head']['hash']}"
    await tamper(host, "UPDATE events SET reason = 'forged' WHERE version = 2")
    for version in (2, 3, 4):
        await tamper(host, REHASH, v=version)
    assert (await verify(http))["intact"]
    assert (await verify(http, anchor=anchor))["problem"]["revision"] == 4


async def test_an_anchor_that_is_none_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"{POLICY}/verify", params={"anchor": "4"})).status_code == 422
