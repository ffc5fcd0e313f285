"""Streams that are kept for ever are looked at: what does not fit any more is told, once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from ringfence.eventlog import Watching, event_log_tampered
from ringfence.host import Host
from ringfence.testing import RunHost, client, installed
from sqlalchemy import text

POLICY = "/api/script-packages/sandbox-policy"


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    host = await run_host(plugins=installed("script-packages"))
    async with client(host) as http:
        for seconds in (1, 2, 3):
            await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": seconds}}})
    return host


def watching(host: Host) -> Watching:
    return Watching(host.runtime.database.sessions, partial(host.runtime.delivery.emit, "host"))


async def execute(host: Host, statement: str) -> list[Any]:
    async with host.runtime.database.sessions.begin() as session:
        answer = await session.execute(text(statement))
        return list(answer.all()) if statement.startswith("SELECT") else []


async def told(host: Host) -> list[tuple[str, int]]:
    rows = await execute(
        host, f"SELECT payload FROM events WHERE hook = '{event_log_tampered.name}' ORDER BY position"
    )
    return [(row.payload["stream"], row.payload["version"]) for row in rows]


async def test_a_history_that_was_changed_is_told_once_and_again_when_more_is(host: Host) -> None:
    assert await watching(host).look() == 0
    await execute(host, "UPDATE events SET actor = 'nobody' WHERE stream = 'sandbox-policy' AND version = 3")
    assert await watching(host).look() == 1
    assert await watching(host).look() == 0
    assert await told(host) == [("sandbox-policy", 3)]
    await execute(host, "UPDATE events SET actor = 'nobody' WHERE stream = 'sandbox-policy' AND version = 2")
    assert await watching(host).look() == 1
    assert await told(host) == [("sandbox-policy", 3), ("sandbox-policy", 2)]


@pytest.mark.parametrize("version", [1, 2])
async def test_events_that_were_removed_from_the_end_are_missed(host: Host, version: int) -> None:
    assert await watching(host).look() == 0
    await execute(host, f"DELETE FROM events WHERE stream = 'sandbox-policy' AND version >= {version}")
    assert await watching(host).look() == 1
    assert await told(host) == [("sandbox-policy", 3)]


async def test_a_stream_whose_beginning_was_let_go_before_it_was_kept_is_no_alarm(host: Host) -> None:
    await execute(host, "DELETE FROM events WHERE stream = 'sandbox-policy' AND version = 1")
    assert await watching(host).look() == 0
    assert await told(host) == []
