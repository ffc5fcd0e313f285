"""Which policy goes to whom.

Every connection of this instance is told of every change, and each change is written down once.

The rule that nothing is missed and nothing undone: a connection is admitted *before* the policy is read for
it. A change that commits after the read reaches the connection as an event, for it is admitted already; one
that committed before is in what is read, or in `latest`. The outbox and the satellite each drop what is
older than what they have.

What a satellite holds that this host's database does not have is replaced: see `held_policy`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import structlog
from ringfence import tracing
from ringfence.backoff import Pauses
from ringfence.redaction import describe
from ringfence.web import TextMessage

from ringfence_satellite.protocol import CloseCode, HeldPolicy, JsonObject, SandboxPolicyPushed
from ringfence_satellite.protocol.digest import digest
from ringfence_satellite.protocol.held_policy import contradicts
from ringfence_satellite.server.batched import Batched
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.traffic import Traffic

RETRY_SECONDS = (0.5, 2.0)
"""The first and the longest pause before asking again what the policy is, after it could not be read."""
READ_SECONDS = 5.0

Read = Callable[[], Awaitable[tuple[Mapping[str, Any], int]]]
_log = structlog.get_logger("ringfence.satellite.relay")


@dataclass(frozen=True, slots=True)
class RelayedPolicy:
    """One revision of the policy, as it goes over the wire.

    `message` is made once and shared by all connections.
    """

    revision: int
    policy: JsonObject
    digest: str
    message: TextMessage

    @classmethod
    def of(cls, policy: Mapping[str, Any], revision: int) -> RelayedPolicy:
        """Serialise a policy."""
        wire = dict(policy)
        message = TextMessage(
            SandboxPolicyPushed(policy=wire, revision=revision, traceparent=tracing.current()).encode()
        )
        return cls(revision, wire, digest(wire), message)


class Relay:
    """The connections of this instance, by satellite, and the policy that they are told.

    `read` answers the policy in wire form and its revision; it may fail. `read_stored` answers the same, from the
    database and from no copy. All of this runs in one event loop, so that whatever is done between two awaits is done
    at once.
    """

    def __init__(self, read: Read, read_stored: Read) -> None:
        self._read = read
        self._read_stored = read_stored
        self._reads: Batched[Literal["policy"], RelayedPolicy] = Batched(self._load)
        self._stored_reads: Batched[Literal["policy"], RelayedPolicy] = Batched(self._load_stored)
        self._claims: dict[UUID, tuple[Connection, ...]] = {}
        self._admitted: dict[UUID, Connection] = {}
        self._untold: set[Connection] = set()
        self._somebody_untold = asyncio.Event()
        self.latest: RelayedPolicy | None = None
        self.traffic = Traffic()

    # Who is connected -------------------------------------------------------------------------------------

    def claim(self, connection: Connection) -> None:
        """Note that a connection says it is this satellite.

        Called before its token is looked up, so that a token which is rotated in the meantime ends the connection.
        """
        self._claims[connection.satellite] = (*self._claims.get(connection.satellite, ()), connection)

    def admit(self, connection: Connection) -> None:
        """Let a connection in whose token was right. An older one of the same satellite is ended."""
        if (older := self._admitted.get(connection.satellite)) is not None:
            older.end(CloseCode.REPLACED, "the same satellite has connected again")
        self._admitted[connection.satellite] = connection

    def forget(self, connection: Connection) -> None:
        """Drop a connection that has ended."""
        others = tuple(one for one in self._claims.get(connection.satellite, ()) if one is not connection)
        if others:
            self._claims[connection.satellite] = others
        else:
            self._claims.pop(connection.satellite, None)
        if self._admitted.get(connection.satellite) is connection:
            del self._admitted[connection.satellite]
        self._untold.discard(connection)

    def connection_of(self, satellite: UUID) -> Connection | None:
        """The connection that a satellite has to this instance, if it has one that is not about to end."""
        connection = self._admitted.get(satellite)
        return None if connection is None or connection.ending else connection

    def admitted(self) -> Sequence[Connection]:
        """Every connection that has been let in."""
        return tuple(self._admitted.values())

    def claimed(self, satellite: UUID) -> Sequence[Connection]:
        """Every connection that says it is this satellite, whether it has been let in or not."""
        return tuple(self._claims.get(satellite, ()))

    def revoke(self, satellite: UUID, reason: str, code: CloseCode = CloseCode.REVOKED) -> None:
        """End every connection of a satellite, admitted or on its way in."""
        for connection in self.claimed(satellite):
            connection.end(code, reason)

    def announced(self, satellite: UUID, arrival: UUID) -> None:
        """The event log says that a satellite has connected, here or elsewhere: one of two connections is older."""
        connection = self._admitted.get(satellite)
        if connection is not None:
            connection.announced(arrival)

    # What they are told -----------------------------------------------------------------------------------

    async def policy_for(self, connection: Connection) -> RelayedPolicy | None:
        """The policy to welcome an admitted connection with.

        None when it cannot be read: it is told later.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                policy = await self._reads.get("policy")
        except Exception as error:
            _log.error("cannot read the policy", error=describe(error))
            policy = None
        if policy is None:
            self._untold.add(connection)
            self._somebody_untold.set()
        return policy

    async def reconciled(
        self, policy: RelayedPolicy, held: HeldPolicy
    ) -> tuple[RelayedPolicy, HeldPolicy | None]:
        """What to welcome a satellite with that holds `held`, and what of it that replaces, if it does."""
        if not contradicts(held, revision=policy.revision, digest=policy.digest):
            return policy, None
        stored = await self._stored()
        if stored is None:
            return policy, None
        if contradicts(held, revision=stored.revision, digest=stored.digest):
            return stored, held
        return max(policy, stored, key=lambda one: one.revision), None

    async def is_unknown(self, revision: int) -> bool:
        """Whether the database does not have this revision, though a satellite says that it has applied it."""
        stored = await self._stored()
        return stored is not None and revision > stored.revision

    def changed(self, policy: Mapping[str, Any], revision: int) -> None:
        """Tell everybody of a new revision, at one go: some ten microseconds each, and no waiting.

        Were others let in between, the first satellites' acknowledgements would be worked on before the
        last ones have been told.
        """
        if self.latest is not None and revision <= self.latest.revision:
            return
        self.latest = latest = RelayedPolicy.of(policy, revision)
        for connection in self._admitted.values():
            connection.tell_policy(latest.message, revision)

    def start_over(self) -> None:
        """The database was set back: forget the policy, and have every satellite come again.

        Only in a welcome can it be told to go to a lower revision (see `held_policy`), and what it is assigned, and
        who it is, may have changed with no event that would say so.
        """
        self.latest = None
        for connection in [one for claimed in self._claims.values() for one in claimed]:
            connection.end(CloseCode.TRY_LATER, "the database was set back: connect again")

    async def check_told(self) -> None:
        """The log is followed again: start over if satellites were told of a revision that the database does not have.

        They were welcomed with what had been read of the policy, and no event of it ever came. Not covered: such a
        revision whose number was given again in the meantime; they keep it until the next one.
        """
        told = max((connection.told_revision for connection in self._admitted.values()), default=-1)
        stored = await self._stored()
        if stored is not None and stored.revision < told:
            self.start_over()

    async def tell_the_untold(self) -> None:
        """Ask again for a policy that could not be read, and tell those who wait for it; until cancelled."""
        while True:
            await self._somebody_untold.wait()
            self._somebody_untold.clear()
            pauses = Pauses(*RETRY_SECONDS)
            while self._untold:
                await asyncio.sleep(pauses.after_failure())
                try:
                    async with asyncio.timeout(READ_SECONDS):
                        policy = await self._reads.get("policy")
                except Exception as error:
                    _log.warning(
                        "still cannot read the policy",
                        error=describe(error),
                        satellites=len(self._untold),
                    )
                    continue
                if policy is not None:
                    untold, self._untold = tuple(self._untold), set()
                    for connection in untold:
                        connection.tell_policy(policy.message, policy.revision)

    async def close(self) -> None:
        """Give up on the reads that are under way."""
        await self._reads.close()
        await self._stored_reads.close()

    async def _stored(self) -> RelayedPolicy | None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._stored_reads.get("policy")
        except Exception as error:
            _log.error("cannot read the stored policy", error=describe(error))
            return None

    async def _load_stored(
        self, keys: Sequence[Literal["policy"]]
    ) -> Mapping[Literal["policy"], RelayedPolicy]:
        return dict.fromkeys(keys, RelayedPolicy.of(*await self._read_stored()))

    async def _load(self, keys: Sequence[Literal["policy"]]) -> Mapping[Literal["policy"], RelayedPolicy]:
        wire, revision = await self._read()
        latest = self.latest
        if latest is None or revision > latest.revision:
            # Shared by all that are welcomed with it; `changed` still tells those who were not.
            latest = RelayedPolicy.of(wire, revision)
        return dict.fromkeys(keys, latest)
