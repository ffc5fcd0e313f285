"""Satellites that understand differences are told what has changed: seen frame by frame, and by a real agent."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.protocol import (
    Authenticate,
    CloseCode,
    RequestAssignments,
    parse_from_host,
)
from ringfence_satellite.protocol.assignments import NOTHING, Assigned, apply

from tests.health_checks.conftest import Checking, agent
from tests.satellite.instances import Instance, Peer, Registered
from tests.satellite.test_plugin import shrink_send_buffer
from tests.shared_hosts import SHARED
from tests.waiting import until

pytestmark = SHARED

SLOW = {"intervalSeconds": 3600, "runsOn": {"tags": ["web"]}}


class Follower:
    """A satellite that applies what it is told, as an agent does; `frames` are the types of those that came."""

    def __init__(self, peer: Peer, held: Assigned) -> None:
        self.peer = peer
        self.held = held
        self.frames: list[str] = []
        self.bytes = 0

    async def follow(self, **scripts: str) -> None:
        """Take frames until it holds just these scripts, by the names of their checks' systems."""
        while {one.wire["systemId"]: one.wire["script"] for one in self.held.items.values()} != scripts:
            text = json.dumps(await self.peer.hear())
            frame = parse_from_host(text)
            self.frames.append(str(json.loads(text)["type"]))
            self.bytes += len(text)
            match self.frames[-1]:
                case "config_updated":
                    self.held = Assigned.read(frame.assignments)  # type: ignore[union-attr, arg-type]
                case "assignments_changed":
                    self.held = apply(self.held, frame.difference())  # type: ignore[union-attr]


@asynccontextmanager
async def following(
    instance: Instance, satellite: Registered, held: Assigned = NOTHING, **options: Any
) -> AsyncIterator[tuple[Follower, dict[str, Any]]]:
    async with instance.peer(**options) as peer:
        hello = Authenticate(
            client_id=satellite.id, token=satellite.token, version="1", assignments_held=held.digest
        )
        await peer.say(hello)
        welcome = await peer.hear("authenticated")
        assert "assignments" not in welcome
        yield Follower(peer, held), welcome


async def test_only_what_has_changed_is_sent(instance: Instance, checking: Checking) -> None:
    satellite = await instance.register("web", tags=["web"])
    made = [await checking.create(name=name, system=name, script="x" * 2000, **SLOW) for name in "abcdef"]
    everything = {one["system"]: one["script"] for one in made}
    async with following(instance, satellite) as (follower, _):
        await follower.follow(**everything)
        follower.bytes, follower.frames = 0, []
        await checking.change(made[0], script="echo other")
        await follower.follow(**everything | {"a": "echo other"})
        await checking.delete(made[1])
        everything.pop("b")
        await follower.follow(**everything | {"a": "echo other"})
        assert follower.frames == ["assignments_changed"] * 2
        assert follower.bytes < 2000, "neither of the others' scripts was sent"


async def test_a_satellite_that_comes_back_is_sent_the_digest_alone_on_whichever_instance(
    instance: Instance, other: Instance, checking: Checking
) -> None:
    here, there = instance, other
    satellite = await here.register("web", tags=["web"])
    check = await checking.create(system="a", **SLOW)
    async with following(here, satellite) as (follower, _):
        await follower.follow(a="echo fine")
    script, held = "echo fine", follower.held
    for each in (here, there):
        await until(lambda: script in board(each))  # noqa: B023
        async with following(each, satellite, held) as (again, welcome):
            assert welcome["assignmentsDigest"] == held.digest
            script = f"echo {each.url}"
            await checking.change(check, script=script)
            await again.follow(a=script)
            assert again.frames == ["assignments_changed"], "nothing but the next change came"
            held = again.held


def board(instance: Instance) -> list[str | None]:
    """The scripts of the checks that an instance knows of."""
    (plugin,) = (one.plugin for one in instance.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    return [check.definition.script for check in (plugin._checks_copy._copy._copy or {}).values()]


async def test_a_satellite_that_missed_a_change_while_it_was_away_is_told_of_it(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("web", tags=["web"])
    check = await checking.create(system="a", **SLOW)
    async with following(instance, satellite) as (follower, _):
        await follower.follow(a="echo fine")
    await checking.change(check, script="echo other")
    async with following(instance, satellite, follower.held) as (again, _):
        await again.follow(a="echo other")


async def test_a_satellite_may_ask_for_all_of_it_but_not_again_and_again(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("web", tags=["web"])
    await checking.create(system="a", **SLOW)
    async with following(instance, satellite) as (follower, _):
        await follower.follow(a="echo fine")
        follower.held, follower.frames = NOTHING, []
        await follower.peer.say(RequestAssignments(held="something else"))
        await follower.follow(a="echo fine")
        assert follower.frames == ["config_updated"]
        await follower.peer.say(RequestAssignments(held="something else"))
        assert (await follower.peer.closed())[0] == CloseCode.TOO_FAST


async def test_a_satellite_that_reads_slowly_is_told_of_many_changes_at_once_and_keeps_nobody_waiting(
    instance: Instance, checking: Checking
) -> None:
    stuck = await instance.register("stuck", tags=["web"])
    lively = await instance.register("lively", tags=["web"])
    check = await checking.create(system="a", **SLOW)
    with socket.socket() as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", int(instance.url.rpartition(":")[2])))
        async with (
            following(instance, stuck, sock=small) as (sleeper, _),
            following(instance, lively) as (peer, _),
        ):
            await sleeper.follow(a="echo fine")
            await peer.follow(a="echo fine")
            held = instance.plugin._relay.connection_of(uuid.UUID(stuck.id))
            assert held is not None
            shrink_send_buffer(held)
            sleeper.peer.socket.transport.pause_reading()
            changes = 0
            while held.stuck_since is None or changes < 5:
                changes += 1
                await checking.change(check, script=f"echo {changes}" + " " * 20_000)
                await peer.follow(a=f"echo {changes}" + " " * 20_000)
            last = changes
            for _ in range(80):
                # More than an outbox has room for, were each of them kept.
                last += 1
                await checking.change(check, script=f"echo {last}")
            await peer.follow(a=f"echo {last}")
            sleeper.frames = []
            sleeper.peer.socket.transport.resume_reading()
            await sleeper.follow(a=f"echo {last}")
            assert len(sleeper.frames) <= changes + 1, "of those that waited one was sent"


@pytest.mark.slow
async def test_a_real_agent_follows_differences_and_takes_its_work_up_where_it_was(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await instance.register("web", tags=["web"])
    kept = await checking.create(name="kept", runsOn={"tags": ["web"]}, script="echo kept")
    edited = await checking.create(name="edited", runsOn={"tags": ["web"]}, script="echo before")

    async def printed(check: dict[str, Any], text: str) -> None:
        await checking.until(check, lambda found: any(one["stdout"] == text for one in found))

    async with agent(instance.url, satellite, tmp_path):
        await asyncio.gather(printed(kept, "kept\n"), printed(edited, "before\n"))
        await checking.change(edited, script="echo after")
        await printed(edited, "after\n")
        added = await checking.create(name="added", runsOn={"tags": ["web"]}, script="echo added")
        await printed(added, "added\n")
        await checking.delete(edited)
        held = instance.plugin._relay.connection_of(uuid.UUID(satellite.id))
        assert held is not None
        held.end(CloseCode.TRY_LATER, "come again")
        before = len(await checking.results(kept))
        await checking.until(kept, lambda found: len(found) > before + 1)
        await instance.until(satellite, lambda shown: shown["status"] == "online")
    log = (tmp_path / "agent.log").read_text()
    assert "asking for all of them" not in log
