"""A database that was restored to an older revision.

Satellites follow it, an answer that is merely late still undoes nothing, and a satellite that cannot follow is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from ringfence.eventlog import Tailer
from ringfence.sandbox import DEFAULT_POLICY
from ringfence.testing import TestPostgres
from ringfence_satellite.protocol import Authenticate, HeldPolicy
from ringfence_satellite.protocol.digest import digest
from sqlalchemy import text

from tests.restoring import restorable, until_reached
from tests.satellite.conftest import StartInstance
from tests.satellite.instances import Instance, Peer, Registered
from tests.satellite.test_agent_process import agent
from tests.satellite.test_fleet_state import rollout, until_rollout
from tests.waiting import until

OLD = {"network": {"mode": "unrestricted"}}
NEW = {"network": {"mode": "deny"}}


@dataclass(slots=True)
class Address:
    """What the agent of a test is given as its instance: a port behind which instances come and go."""

    url: str
    backend: int = 0


@asynccontextmanager
async def address() -> AsyncIterator[Address]:
    made: Address
    links: set[asyncio.StreamWriter] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", made.backend)
        except OSError:
            writer.transport.abort()
            return
        links.update((writer, downstream))
        pumps = [asyncio.create_task(_pump(reader, downstream)), asyncio.create_task(_pump(upstream, writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for end in (writer, downstream):
            end.transport.abort()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    made = Address(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield made
    finally:
        server.close()
        for link in links:
            link.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def set_back(instance: Instance, revision: int) -> None:
    """Leave the database as it was when the policy was at `revision`."""
    async with instance.host.runtime.database.sessions.begin() as session:
        await session.execute(
            text("DELETE FROM events WHERE stream = 'sandbox-policy' AND version > :revision"),
            {"revision": revision},
        )
        # The row is a projection; without it the newest revision is read from the stream.
        await session.execute(text("DELETE FROM plugin_configs WHERE key = 'sandbox-policy'"))
        await session.execute(text("UPDATE satellite_satellites SET applied_revision = NULL"))


@asynccontextmanager
async def holding(instance: Instance, satellite: Registered, held: object) -> AsyncIterator[Peer]:
    """A satellite that says that it holds a policy."""
    async with instance.peer() as peer:
        await peer.say(
            Authenticate.model_validate(
                {"client_id": satellite.id, "token": satellite.token, "sandbox_policy_held": held}
            )
        )
        yield peer


def held(revision: int, policy: object = None) -> HeldPolicy:
    return HeldPolicy(
        revision=revision, digest=digest(policy if policy is not None else DEFAULT_POLICY.to_wire())
    )


async def current(instance: Instance) -> dict[str, Any]:
    answer = await instance.api.get("/api/script-packages/sandbox-policy")
    found: dict[str, Any] = answer.json()["policy"]
    return found


async def test_an_agent_that_goes_on_running_follows_a_database_that_was_set_back(
    start_instance: StartInstance, tmp_path: Path
) -> None:
    before = await start_instance()
    satellite = await before.register()
    async with address() as place:
        place.backend = port_of(before)
        async with agent(Instance(before.host, place.url, before.api), satellite, tmp_path):
            for policy in (OLD, NEW, OLD, NEW):
                await before.set_policy(policy)
            await before.until(satellite, lambda one: one["appliedRevision"] == 4)
            await set_back(before, 1)
            after = await start_instance()
            place.backend = port_of(after)
            for connection in before.plugin._relay.admitted():
                assert connection._direct is not None, "the host serves with direct writes"
                connection._direct.abort()
            shown = await after.until(satellite, lambda one: one["appliedRevision"] == 1)
            assert not shown["appliedUnknown"]
            # Not after the number has passed what it held, but at once.
            assert await after.set_policy(NEW) == 2
            await after.until(satellite, lambda one: one["appliedRevision"] == 2)


def port_of(instance: Instance) -> int:
    return int(instance.url.rpartition(":")[2])


@pytest.mark.slow
async def test_an_agent_follows_a_database_that_is_restored_under_a_running_instance(
    start_instance: StartInstance, postgres: TestPostgres, tmp_path: Path
) -> None:
    async with restorable(postgres) as database:
        instance = await start_instance(database_url=database.url)
        satellite = await instance.register()
        async with agent(instance, satellite, tmp_path):
            await instance.set_policy(OLD)
            await instance.until(satellite, lambda one: one["appliedRevision"] == 1)
            await database.back_up()
            for policy in (NEW, OLD, NEW):
                await until_reached(lambda policy=policy: instance.set_policy(policy))  # type: ignore[misc]
            await instance.until(satellite, lambda one: one["appliedRevision"] == 4)
            await database.restore()
            # As an administrator would, who does not wait for anything.
            assert await until_reached(lambda: instance.set_policy(NEW)) == 2
            shown = await instance.until(satellite, lambda one: one["appliedRevision"] == 2)
            assert not shown["appliedUnknown"]
            await until_rollout(instance, revision=2, applied=1, unknownCount=0, complete=True)


@pytest.mark.slow
async def test_who_was_told_of_a_lost_revision_without_its_event_comes_again(
    start_instance: StartInstance, postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with restorable(postgres) as database:
        instance = await start_instance(database_url=database.url)
        satellite = await instance.register()
        await instance.set_policy(OLD)
        await until(lambda: instance.plugin._relay.latest is not None)
        with monkeypatch.context() as cut_off:
            cut_off.setattr(Tailer, "_connect", _never)
            await database.back_up()
            await until(lambda: not instance.host.runtime.tailer.live)
            await until_reached(lambda: instance.set_policy(NEW))
            async with instance.peer(satellite) as peer:
                assert (await peer.hear("authenticated"))["sandboxPolicyRevision"] == 2
                await database.restore()
                cut_off.undo()
                assert await peer.closed() == (1013, "the database was set back: connect again")


async def _never(_: Tailer) -> NoReturn:
    raise OSError("out of reach")


async def test_a_policy_that_the_database_does_not_have_is_replaced_by_one_with_the_same_number(
    instance: Instance,
) -> None:
    satellite = await instance.register()
    await instance.set_policy(NEW)
    async with holding(instance, satellite, lost := held(1, {"another": "policy"})) as peer:
        welcome = await peer.hear("authenticated")
    assert welcome["sandboxPolicyReplaces"] == lost.model_dump()
    assert welcome["sandboxPolicyRevision"] == 1
    assert welcome["sandboxPolicy"] == await current(instance)


async def test_a_satellite_that_holds_what_the_database_has_is_told_to_replace_nothing(
    instance: Instance,
) -> None:
    satellite = await instance.register()
    await instance.set_policy(NEW)
    policy = await current(instance)
    reordered = dict(reversed(policy.items()))
    for one in ("none", held(0), held(1, reordered)):
        async with holding(instance, satellite, one) as peer:
            welcome = await peer.hear("authenticated")
        assert "sandboxPolicyReplaces" not in welcome
        assert welcome["sandboxPolicyRevision"] == 1


async def test_an_instance_that_has_not_heard_of_a_revision_yet_replaces_nothing(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy is older than what the satellite has from another instance; the database decides, not the copy."""
    satellite = await instance.register()
    await instance.set_policy(NEW)
    policy = await current(instance)

    async def copied():  # type: ignore[no-untyped-def]
        return DEFAULT_POLICY.to_wire(), 0

    relay = instance.plugin._relay
    monkeypatch.setattr(relay, "_read", copied)
    monkeypatch.setattr(relay, "latest", None)
    async with holding(instance, satellite, held(1, policy)) as peer:
        welcome = await peer.hear("authenticated")
        assert "sandboxPolicyReplaces" not in welcome
        assert welcome["sandboxPolicyRevision"] == 1
        await peer.applied(1)
        assert not (await instance.until(satellite, lambda one: one["appliedRevision"] == 1))[
            "appliedUnknown"
        ]


async def test_a_core_that_cannot_read_its_database_replaces_nothing(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    satellite = await instance.register()

    async def broken():  # type: ignore[no-untyped-def]
        raise OSError("the policy cannot be read")

    monkeypatch.setattr(instance.plugin._relay, "_read_stored", broken)
    async with holding(instance, satellite, held(7)) as peer:
        assert "sandboxPolicyReplaces" not in await peer.hear("authenticated")
        await peer.applied(7)
        assert not (await instance.until(satellite, lambda one: one["appliedRevision"] == 7))[
            "appliedUnknown"
        ]


async def test_a_satellite_that_cannot_follow_lags_until_it_does(instance: Instance) -> None:
    """An agent of a release that does not say what it holds: it keeps its revision, and its number comes again."""
    satellite = await instance.register()
    await instance.set_policy(NEW)
    async with instance.connected(satellite) as peer:
        await peer.applied(2)
        shown = await instance.until(satellite, lambda one: one["appliedRevision"] == 2)
        assert shown["appliedUnknown"]
        lagging = await until_rollout(instance, revision=1, applied=0, unknownCount=1)
        assert lagging["lagging"][0]["appliedUnknown"]
        # Its own revision 2 is not the one that is written now, though it says so.
        await instance.set_policy(OLD)
        await peer.hear("sandbox_policy")
        await peer.applied(2)
        await peer.say('{"type": "heartbeat", "version": "later"}')
        await instance.until(satellite, lambda one: one["version"] == "later")
        assert await rollout(instance) >= {"revision": 2, "applied": 0, "unknownCount": 1, "complete": False}
        await instance.set_policy(NEW)
        await peer.hear("sandbox_policy")
        await peer.applied(3)
        await until_rollout(instance, revision=3, applied=1, unknownCount=0, complete=True)


async def test_a_satellite_that_could_not_follow_does_once_its_agent_is_started_again(
    instance: Instance,
) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        await peer.applied(1)
        await until_rollout(instance, unknownCount=1)
    # With the same number, as chance would have it; but it says that it held nothing when it came.
    await instance.set_policy(NEW)
    async with holding(instance, satellite, "none") as peer:
        await peer.hear("authenticated")
        await peer.applied(1)
        await until_rollout(instance, revision=1, applied=1, unknownCount=0)


async def test_what_was_acknowledged_on_a_former_connection_counts_no_more(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as first:
        await first.applied(5)
        await instance.until(satellite, lambda one: one["appliedRevision"] == 5)
    async with instance.connected(satellite) as second:
        await second.applied(0)
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
