"""The steps of a connection: what each allows, and what comes too late."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from ringfence.web import TextMessage
from ringfence_satellite.protocol import CloseCode, RunAccepted, SandboxPolicyApplied
from ringfence_satellite.protocol.bounds import MAX_FRAME_BURST
from ringfence_satellite.server.connections.connection import Connection, SignIn
from ringfence_satellite.server.connections.outbox import MAX_MESSAGES
from ringfence_satellite.server.connections.traffic import Traffic
from ringfence_satellite.server.profile import Profile
from starlette.websockets import WebSocket

WELCOME, POLICY = TextMessage('{"type":"authenticated"}'), TextMessage('{"type":"sandbox_policy"}')


class Peer:
    """A socket that takes everything, and keeps what it was sent."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.socket = WebSocket({"type": "websocket"}, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            self.heard.append(message["text"])


@pytest.fixture
async def peer() -> Peer:
    made = Peer()
    await made.socket.accept()
    return made


@pytest.fixture
async def connection(peer: Peer) -> AsyncIterator[Connection]:
    async with asyncio.timeout(None) as scope:
        made = Connection(peer.socket, scope, satellite=uuid.uuid4(), id=uuid.uuid4())
        yield made
        await made.stop_writing()


def sign_in(*tags: str, process: str | None = "process", runs: tuple[str, ...] = ()) -> SignIn:
    return SignIn(profile(*tags), 45.0, process, runs)


def profile(*tags: str) -> Profile:
    return Profile("web", "eu", tags, {}, {})


async def test_what_finds_no_room_is_counted_and_the_sender_is_told(peer: Peer) -> None:
    traffic = Traffic()
    async with asyncio.timeout(None) as scope:
        connection = Connection(peer.socket, scope, satellite=uuid.uuid4(), id=uuid.uuid4(), traffic=traffic)
        # Nothing leaves before the welcome.
        assert [connection.send(POLICY) for _ in range(MAX_MESSAGES)] == [True] * MAX_MESSAGES
        assert traffic.dropped.items() == ()
        assert not connection.send(POLICY)
        assert traffic.dropped.items() == ((("no-room",), 1.0),)
        await connection.stop_writing()


async def test_it_is_admitted_once(connection: Connection) -> None:
    assert not connection.is_admitted
    connection.admitted(sign_in())
    assert connection.is_admitted
    with pytest.raises(RuntimeError, match="admitted once"):
        connection.admitted(sign_in())


async def test_tags_that_came_while_its_token_was_read_are_kept(connection: Connection) -> None:
    assert not connection.changed(profile("new")), "it is told nothing before it is admitted"
    connection.admitted(sign_in("old"))
    assert connection.identity.tags == {"new"}
    assert not connection.changed(profile("new"))
    assert connection.changed(profile("newer"))


async def test_nothing_leaves_before_the_welcome_and_the_welcome_leaves_first(
    connection: Connection, peer: Peer
) -> None:
    connection.admitted(sign_in())
    connection.tell_policy(POLICY, 7)
    await asyncio.sleep(0)
    assert peer.heard == []
    connection.welcome(WELCOME, revision=6, holds=None)
    while len(peer.heard) < 2:
        await asyncio.sleep(0)
    assert peer.heard == [WELCOME.text, POLICY.text]
    assert connection.told_revision == 7


async def after(*steps: Callable[[Connection], None]) -> tuple[Connection, bool]:
    """A connection after these steps, and whether they have woken whoever reads it."""
    try:
        async with asyncio.timeout(None) as scope:
            made = Connection(Peer().socket, scope, satellite=uuid.uuid4(), id=uuid.uuid4())
            for step in steps:
                step(made)
            # A turn of the loop is the moment in which the reader is woken.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    except TimeoutError:
        return made, True
    return made, False


async def test_the_first_reason_to_end_it_holds_and_wakes_whoever_reads_it() -> None:
    ending, woken = await after(
        lambda one: one.end(CloseCode.REVOKED, "first"), lambda one: one.end(CloseCode.SILENT, "second")
    )
    assert (ending.ending, woken) == ((CloseCode.REVOKED, "first"), True)


async def test_one_that_has_ended_by_itself_is_left_alone() -> None:
    over, woken = await after(Connection.ended, lambda one: one.end(CloseCode.SILENT, "too late"))
    assert (over.ending, woken) == (None, False)


async def test_of_two_connections_that_the_log_tells_of_the_older_one_ends() -> None:
    other = uuid.uuid4()
    newer, _ = await after(lambda one: one.announced(other), lambda one: one.announced(one.id))
    assert newer.ending is None, "the log had yet to tell of it"
    older, woken = await after(lambda one: one.announced(one.id), lambda one: one.announced(other))
    assert older.ending is not None
    assert (older.ending[0], woken) == (CloseCode.REPLACED, True)


async def test_an_answer_that_was_asked_for_is_no_part_of_the_rate(connection: Connection) -> None:
    connection.admitted(sign_in())
    for n in range(2 * int(MAX_FRAME_BURST)):
        connection.runs.handed_over(str(n))
        assert connection.heard(RunAccepted(run_id=str(n)))
        connection.runs.accepted(str(n))
    taken = [connection.heard(RunAccepted(run_id=str(n))) for n in range(2 * int(MAX_FRAME_BURST))]
    assert taken[0]
    assert not taken[-1], "said again, it is one frame like any other"


async def test_a_revision_that_was_applied_is_never_taken_back(connection: Connection) -> None:
    assert connection.policy_applied(3)
    assert connection.policy_applied(3)
    assert not connection.policy_applied(2)
    assert connection.heard(SandboxPolicyApplied(revision=2))


@pytest.mark.parametrize(("process", "ends"), [(None, True), ("process", False)])
async def test_runs_end_with_a_connection_whose_agent_keeps_none(
    connection: Connection, process: str | None, ends: bool
) -> None:
    connection.admitted(sign_in(process=process))
    assert not connection.ends_runs, "there are none"
    connection.runs.handed_over("one")
    assert connection.ends_runs is ends
