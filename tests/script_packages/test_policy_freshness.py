"""The provider never answers with a copy that it cannot know to be fresh: it reads the row, or is fail-closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import ringfence_script_packages.policy_copy
from ringfence.eventlog import tail
from ringfence.host import Host
from ringfence.sandbox.policy import FAIL_CLOSED_POLICY, NetworkMode
from ringfence.sandbox.policy.provider import PolicySource, current_policy
from ringfence.settings import HostSettings
from ringfence.testing import client
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.eventlog.stalling import StallingProxy, stalling_proxy
from tests.waiting import until

POLICY = "/api/script-packages/sandbox-policy"


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[StallingProxy]:
    async with stalling_proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
async def host(proxy: StallingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    settings = HostSettings(database_url=proxy.url, data_dir=tmp_path / "instance")
    async with Host(settings, plugins=[ScriptPackagesPlugin()]) as host:
        # Quick from here on: a start may take its time on a busy machine.
        monkeypatch.setattr(tail, "POLL_SECONDS", 0.1)
        monkeypatch.setattr(tail, "READ_SECONDS", 0.3)
        monkeypatch.setattr(tail, "LIVE_SECONDS", 0.6)
        monkeypatch.setattr(ringfence_script_packages.policy_copy, "READ_SECONDS", 0.3)
        async with client(host) as http:
            await http.put(POLICY, json={"policy": {"network": {"mode": "unrestricted"}}})
        await until(lambda: host.runtime.tailer.live)
        yield host


async def tighten(database_url: str) -> None:
    """What another instance does: the next revision, in the stream and in the row, past the proxy."""
    async with await psycopg.AsyncConnection.connect(database_url.replace("+psycopg", "")) as connection:
        await connection.execute("""
            WITH policy AS (
                UPDATE plugin_configs SET value = jsonb_set(jsonb_set(value, '{revision}', '2'),
                                                            '{policy,network,mode}', '"deny"')
                RETURNING value)
            SELECT ringfence_append_event('sandbox-policy', 'sandbox-policy-changed', 'script-packages',
                jsonb_build_object('revision', 2, 'previous_revision', 1, 'policy', value->'policy', 'changes',
                                   '[]'::jsonb, 'actor', 'ada', 'reason', NULL, 'changed_at', now()),
                'ada', NULL, 1, gen_random_uuid(), true)
              FROM policy""")


async def followed(host: Host, url: str) -> None:
    """Return when the host has read all that is in the log now."""
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
        row = await (await connection.execute("SELECT max(position) FROM events")).fetchone()
    assert row is not None
    await until(lambda: host.runtime.tailer.cursor >= row[0])


async def test_while_it_follows_the_log_it_answers_from_memory(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unread(*_: Any) -> None:
        raise AssertionError("the row was read")

    monkeypatch.setattr("ringfence_script_packages.policy_store.SandboxPolicies.current", unread)
    snapshot = await current_policy()
    assert (snapshot.source, snapshot.revision) == (PolicySource.STORED, 1)
    assert snapshot.policy.network.mode is NetworkMode.UNRESTRICTED


async def test_a_change_on_another_instance_is_taken_over(host: Host, database_url: str) -> None:
    await tighten(database_url)
    await followed(host, database_url)
    snapshot = await current_policy()
    assert (snapshot.revision, snapshot.policy.network.mode) == (2, NetworkMode.DENY)


async def test_cut_off_from_the_database_it_is_fail_closed_and_not_on_the_old_policy(
    host: Host, proxy: StallingProxy, database_url: str
) -> None:
    proxy.stall()
    await tighten(database_url)
    await until(lambda: not host.runtime.tailer.live)
    snapshot = await current_policy()
    assert snapshot.source is PolicySource.FAIL_CLOSED
    assert snapshot.policy == FAIL_CLOSED_POLICY
    assert "the stored sandbox policy did not answer" in (snapshot.reason or "")
    proxy.resume()
    await until(lambda: host.runtime.tailer.live)
    snapshot = await current_policy()
    assert (snapshot.source, snapshot.revision) == (PolicySource.STORED, 2)


async def test_with_a_dead_tailer_the_row_is_read(
    host: Host, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "LIVE_SECONDS", 0.0)
    async with client(host) as http:
        before = (await http.get("/readyz")).json()
    assert before["tail"]["live"] is False
    await tighten(database_url)
    snapshot = await current_policy()
    assert (snapshot.revision, snapshot.policy.network.mode) == (2, NetworkMode.DENY)


async def test_after_an_event_that_could_not_be_read_the_row_is_read(host: Host, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url.replace("+psycopg", "")) as connection:
        await connection.execute(
            """SELECT ringfence_append_event('sandbox-policy', 'sandbox-policy-changed', 'script-packages',
                   '{"from": "a newer release"}', 'ada', NULL, 1, gen_random_uuid(), true)"""
        )
        await connection.execute(
            """UPDATE plugin_configs SET value = jsonb_set(jsonb_set(value, '{revision}', '2'),
                                                           '{policy,network,mode}', '"deny"')"""
        )
    await followed(host, database_url)
    snapshot = await current_policy()
    assert host.runtime.tailer.live
    assert (snapshot.revision, snapshot.policy.network.mode) == (2, NetworkMode.DENY)
