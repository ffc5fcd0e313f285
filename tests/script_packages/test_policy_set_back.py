"""A database that is restored under a running instance takes the policy with it.

The instance follows, and never answers with what is no longer in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ringfence.eventlog import tail
from ringfence.host import Host
from ringfence.sandbox.policy import NetworkMode
from ringfence.sandbox.policy.provider import current_policy
from ringfence.testing import RunHost, TestPostgres, client

from tests.restoring import Restorable, restorable, until_reached
from tests.waiting import until

POLICY = "/api/script-packages/sandbox-policy"
DENY, OPEN = {"network": {"mode": "deny"}}, {"network": {"mode": "unrestricted"}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(tail, "RETRY_SECONDS", (0.05, 0.2))


@pytest.fixture
async def database(postgres: TestPostgres) -> AsyncIterator[Restorable]:
    async with restorable(postgres) as database:
        yield database


@pytest.fixture
async def host(run_host: RunHost, database: Restorable) -> Host:
    return await run_host(database_url=database.url)


@pytest.fixture
async def http(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as http:
        yield http


async def write(http: httpx.AsyncClient, policy: dict[str, Any]) -> int:
    """Write the policy as soon as the database can be reached; answers its revision."""
    answer = await until_reached(lambda: http.put(POLICY, json={"policy": policy}, headers={"If-Match": "*"}))
    assert answer.status_code == 200, answer.text
    return int(answer.json()["revision"])


def noticed(host: Host) -> bool:
    return host.runtime.tailer.set_back is not None and host.runtime.tailer.live


async def provided() -> tuple[int | None, NetworkMode]:
    snapshot = await current_policy()
    return snapshot.revision, snapshot.policy.network.mode


async def test_the_policy_goes_back_with_its_database_and_then_on_from_there(
    host: Host, http: httpx.AsyncClient, database: Restorable
) -> None:
    await write(http, DENY)
    await database.back_up()
    for policy in (OPEN, DENY, OPEN):
        last = await write(http, policy)
    await until(lambda: host.runtime.tailer.cursor == last)
    assert await provided() == (last, NetworkMode.UNRESTRICTED)
    await database.restore()
    await until(lambda: noticed(host))
    # No event tells of it: nobody has written anything since.
    assert await provided() == (1, NetworkMode.DENY)
    assert await write(http, OPEN) == 2
    assert await provided() == (2, NetworkMode.UNRESTRICTED)
    assert await write(http, DENY) == 3
    assert await provided() == (3, NetworkMode.DENY)


async def test_a_revision_with_the_same_number_takes_the_lost_ones_place(
    run_host: RunHost, host: Host, http: httpx.AsyncClient, database: Restorable
) -> None:
    await write(http, DENY)
    await database.back_up()
    await write(http, OPEN)
    await until(lambda: host.runtime.tailer.cursor == 2)
    assert await provided() == (2, NetworkMode.UNRESTRICTED)
    await database.restore()
    await until(lambda: noticed(host))
    assert await write(http, DENY | {"resources": {"cpuSeconds": 5}}) == 2
    assert await provided() == (2, NetworkMode.DENY)


@pytest.mark.slow
async def test_a_lost_revision_of_which_no_event_was_heard_goes_with_the_connection(
    host: Host, http: httpx.AsyncClient, database: Restorable, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(http, DENY)
    await until(lambda: host.runtime.tailer.cursor == 1)
    with monkeypatch.context() as cut_off:
        cut_off.setattr(tail.Tailer, "_connect", _never)
        await database.back_up()
        assert await write(http, OPEN) == 2
        assert await provided() == (2, NetworkMode.UNRESTRICTED)
        await database.restore()
        await until(lambda: not host.runtime.tailer.live)
    await until(lambda: host.runtime.tailer.live)
    assert host.runtime.tailer.set_back is None
    assert await provided() == (1, NetworkMode.DENY)


async def test_until_it_is_noticed_a_copy_that_is_not_believed_does_not_outweigh_the_row(
    host: Host, http: httpx.AsyncClient, database: Restorable, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(http, DENY)
    await database.back_up()
    await write(http, OPEN)
    await until(lambda: host.runtime.tailer.live)
    assert await provided() == (2, NetworkMode.UNRESTRICTED)
    # The tailer, had it been cut off for long, is away for a while more.
    monkeypatch.setattr(tail, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(tail.Tailer, "_connect", _never)
    await database.restore()
    assert host.runtime.tailer.set_back is None
    assert await provided() == (1, NetworkMode.DENY)


async def _never(_: tail.Tailer) -> tail.Connection:
    raise OSError("out of reach")
