"""Which sets of packages each satellite is to have, and the pieces of them that it asks for.

A satellite has the default set, those that its assignments name, and those of the runs that were asked for over its
connection. Every one is told whenever that changes, or a set has another lock.

The rule that nothing is missed is that of the policy (see `relay`): a connection is admitted before it is told which
locks there are, and whenever these are read anew, all that are admitted are told.

Threat: a satellite that was taken over asks for files of others, or for more than it reads. Mechanism: it gets pieces
of the locks that it was told of, and of nothing else; and few at a time, so that what waits for it is bounded (see
`Outbox.piece`). Not covered: whoever holds a satellite can read the packages of its checks.

Threat: hundreds of satellites that fetch at once keep an instance from all else, such as a change of the policy.
Mechanism: few pieces are answered in one turn of the event loop, and the others wait for theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from pydantic import ValidationError
from ringfence import Event, PluginContext
from ringfence.backoff import Pauses
from ringfence.redaction import describe
from ringfence.scripts.packages.platform import Platform
from ringfence.web import TextMessage
from ringfence_script_packages.hooks import ScriptPackagesChanged
from ringfence_script_packages.service import BlobError, ScriptPackages

from ringfence_satellite.protocol import (
    MAX_PACKAGE_PIECE,
    MAX_SETS,
    PACKAGES,
    JsonObject,
    RequestScriptPackageBlob,
    RequestScriptPackageManifest,
    ScriptPackagePiece,
)
from ringfence_satellite.protocol.assignments import Assigned
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.relay import Relay
from ringfence_satellite.server.packages.states import SyncStates

DEFAULT_SET = "default"
RETRY_SECONDS = (0.5, 5.0)
READ_SECONDS = 5.0
ANSWERED_AT_ONCE = 2
"""How many pieces are answered at once. Each takes a part of a millisecond, for which nothing else is done."""

NOT_YOURS = "this satellite is not assigned that"
_log = structlog.get_logger("ringfence.satellite.packages")


class Offering:
    """Tells satellites of their packages, and answers when they ask for pieces."""

    def __init__(self, context: PluginContext, relay: Relay, sync_states: SyncStates) -> None:
        self._sync_states = sync_states
        self._context = context
        self._relay = relay
        self._locks: Mapping[str, str] | None = None
        self._changed = asyncio.Event()
        self._changed.set()
        self._turns = asyncio.Semaphore(ANSWERED_AT_ONCE)

    @property
    def _packages(self) -> ScriptPackages:
        return self._context.services.get(ScriptPackages)

    # Which sets there are ---------------------------------------------------------------------------------

    async def changed(self, _: Event[ScriptPackagesChanged]) -> None:
        """A set has another lock, or more of its files."""
        self.look()

    def look(self) -> None:
        """Read anew which locks there are, and tell everybody whom that concerns."""
        self._changed.set()

    async def follow_until_cancelled(self) -> None:
        """Read which locks there are whenever that changes; a database that fails is waited for."""
        pauses = Pauses(*RETRY_SECONDS)
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                async with asyncio.timeout(READ_SECONDS):
                    self._locks = await self._packages.current()
            except Exception as error:
                _log.warning("cannot read which packages there are; trying again", error=describe(error))
                self._changed.set()
                await asyncio.sleep(pauses.after_failure())
                continue
            pauses.succeeded()
            for connection in self._relay.admitted():
                self._tell(connection)
                # There may be thousands, and others have something to say meanwhile.
                await asyncio.sleep(0)

    # What each satellite is told --------------------------------------------------------------------------

    def welcome(self, connection: Connection, assigned: Assigned) -> Mapping[str, str] | None:
        """The sets to welcome a satellite with; None if they are not known yet, so that it is told later."""
        connection.names_sets(assigned.sets)
        sets = self._sets(connection)
        connection.holds_packages(sets)
        if sets is not None:
            self._sync_states.assigned(connection.satellite, sets)
        return sets

    def assigned(self, connection: Connection, assigned: Assigned) -> None:
        """Note what a satellite is to do, before it is told."""
        connection.names_sets(assigned.sets)
        self._tell(connection)

    def asked_for(self, connection: Connection, set: str) -> None:
        """Note that a run of this set is asked for on a satellite, before it is told."""
        connection.runs_with(set)
        self._tell(connection)

    def _tell(self, connection: Connection) -> None:
        sets = self._sets(connection)
        if sets is not None and sets != connection.packages:
            connection.tell_packages(sets)
            self._sync_states.assigned(connection.satellite, sets)

    def _sets(self, connection: Connection) -> Mapping[str, str] | None:
        if self._locks is None or PACKAGES not in connection.understands:
            return None
        names = sorted({DEFAULT_SET, *connection.sets} & self._locks.keys())
        if len(names) > MAX_SETS:
            _log.error(
                "a satellite has more sets of packages than it can be told of",
                satellite=str(connection.satellite),
                sets=len(names),
            )
        return {name: self._locks[name] for name in names[:MAX_SETS]}

    # What it says, and asks for ---------------------------------------------------------------------------

    async def on_platform(self, connection: Connection, told: JsonObject) -> None:
        """Note on what platform a satellite is. One that is not understood here has no packages, and no more harm."""
        try:
            platform = Platform.model_validate(told)
        except ValidationError:
            _log.warning(
                "a satellite tells a platform that is not understood", satellite=str(connection.satellite)
            )
            return
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._packages.seen(platform)
        except Exception as error:
            _log.warning("cannot note a satellite's platform", error=describe(error))

    async def answer(
        self, connection: Connection, frame: RequestScriptPackageManifest | RequestScriptPackageBlob
    ) -> bool:
        """Answer a request for a piece. False when the satellite has no business with it."""
        if connection.awaits_piece:
            # It has not read the last one: it gets no other.
            return False
        try:
            found = await self._find(connection, frame)
        except BlobError as error:
            _log.warning("cannot read a file of a package", error=describe(error))
            found = "the host does not have it just now"
        except Exception as error:
            _log.error("cannot read a file of a package", error=describe(error))
            found = "the host cannot read it"
        async with self._turns:
            piece = (
                ScriptPackagePiece(request_id=frame.request_id, error=found)
                if isinstance(found, str)
                else ScriptPackagePiece.of(frame.request_id, *found)
            )
            connection.tell_piece(TextMessage(piece.encode()))
            # Whoever waits for its turn has it when the event loop has done all else that is to be done now.
            await asyncio.sleep(0)
        return found != NOT_YOURS

    async def _find(
        self, connection: Connection, frame: RequestScriptPackageManifest | RequestScriptPackageBlob
    ) -> tuple[bytes, int] | str:
        """What is asked for, and of how much it is a piece; or why the satellite does not get it."""
        if not connection.may_fetch(frame.lock):
            return NOT_YOURS
        lock = await self._packages.lock(frame.lock)
        if lock is None:
            return NOT_YOURS
        if isinstance(frame, RequestScriptPackageManifest):
            return lock.content[frame.offset : frame.offset + MAX_PACKAGE_PIECE], len(lock.content)
        size = lock.files.get(frame.sha256)
        if size is None:
            return NOT_YOURS
        length = min(frame.length, size - frame.offset)
        if length <= 0:
            return b"", size
        return await self._packages.piece(frame.sha256, offset=frame.offset, length=length), size
