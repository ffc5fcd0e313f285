"""Which part of the plugin acts on each frame that an admitted satellite sends.

Threat: a satellite may have been taken over. Mechanism: it can report only on itself and on what was asked of it; what
it has no business sending changes nothing, and is logged by the caller.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import assert_never

import structlog
from ringfence import tracing
from ringfence.web import TextMessage

from ringfence_satellite.protocol import (
    Authenticate,
    CheckResult,
    CloseCode,
    Heartbeat,
    ProtocolError,
    RequestAssignments,
    RequestRunSecrets,
    RequestScriptPackageBlob,
    RequestScriptPackageManifest,
    ResultAck,
    RunAccepted,
    RunFinished,
    RunOutput,
    SandboxPolicyApplied,
    SatelliteFrame,
    ScriptPackageSyncState,
    StrategyError,
)
from ringfence_satellite.server.assigned_work import Work
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.relay import Relay
from ringfence_satellite.server.journal import Journal
from ringfence_satellite.server.packages.offering import Offering
from ringfence_satellite.server.packages.states import SyncStates
from ringfence_satellite.server.runs.delivery import Deliveries
from ringfence_satellite.server.runs.output import Outputs

_log = structlog.get_logger("ringfence.satellite.dispatch")


def _answer(
    what: str,
    connection: Connection,
    traceparent: str | None,
    *,
    revision: int | None = None,
    run: str | None = None,
) -> AbstractContextManager[None]:
    """The span of what a satellite says about what it was told or asked."""
    satellite = str(connection.satellite)
    return tracing.span(
        what, traceparent, kind=tracing.Kind.CONSUMER, satellite=satellite, revision=revision, run=run
    )


class Dispatch:
    """Hands each frame to the part that it is for."""

    def __init__(
        self,
        *,
        relay: Relay,
        journal: Journal,
        runs: Deliveries,
        outputs: Outputs,
        work: Work,
        packages: Offering,
        sync_states: SyncStates,
    ) -> None:
        self._packages = packages
        self._sync_states = sync_states
        self._relay = relay
        self._journal = journal
        self._runs = runs
        self._outputs = outputs
        self._work = work

    async def take(self, connection: Connection, frame: SatelliteFrame) -> bool:
        """Act on one frame. False when the satellite has no business sending it. Raises `ProtocolError`."""
        match frame:
            case Heartbeat():
                self._journal.heartbeat(
                    connection.satellite,
                    connection.id,
                    version=frame.version,
                    capabilities=frame.capabilities,
                )
                return True
            case SandboxPolicyApplied():
                with _answer(
                    "satellite has applied the policy", connection, frame.traceparent, revision=frame.revision
                ):
                    return await self._policy_applied(connection, frame)
            case RunAccepted():
                return await self._runs.accepted(connection, frame)
            case RunOutput():
                return self._outputs.heard(connection, frame)
            case RunFinished():
                with _answer("satellite has run the script", connection, frame.traceparent, run=frame.run_id):
                    return await self._runs.answered(connection, frame)
            case CheckResult():
                taken = await self._work.report(connection.identity, frame)
                if frame.result_id is not None:
                    # What is refused is settled too: it would be refused again, however often it came.
                    connection.answer(
                        TextMessage(ResultAck(result_id=frame.result_id, accepted=taken).encode())
                    )
                return taken
            case StrategyError():
                return await self._work.report(connection.identity, frame)
            case RequestRunSecrets():
                answer = await self._work.secrets(connection.identity, frame)
                connection.answer(TextMessage(answer.encode()))
                return answer.env is not None
            case RequestAssignments():
                if not connection.assign_anew():
                    raise ProtocolError(
                        "the satellite asks for all of its assignments too often", CloseCode.TOO_FAST
                    )
                _log.warning(
                    "a satellite holds other assignments than it was told; it is told all of them",
                    satellite=str(connection.satellite),
                )
                return True
            case RequestScriptPackageManifest() | RequestScriptPackageBlob():
                return await self._packages.answer(connection, frame)
            case ScriptPackageSyncState():
                return self._sync_states.heard(connection, frame)
            case Authenticate():
                return False
            case _:
                assert_never(frame)

    async def _policy_applied(self, connection: Connection, frame: SandboxPolicyApplied) -> bool:
        if not connection.policy_applied(frame.revision):
            return False
        unknown = await self._is_unknown(connection, frame.revision)
        self._journal.applied(connection.satellite, connection.id, frame, unknown=unknown)
        return True

    async def _is_unknown(self, connection: Connection, revision: int) -> bool | None:
        """Whether the satellite governs its runs by a revision that the database does not have.

        None if that cannot be told: of a satellite that does not say what it holds, only the number that it has
        applied is known.
        """
        if revision <= connection.told_revision:
            return False if connection.names_policy else None
        if not await self._relay.is_unknown(revision):
            return None
        _log.error(
            "a satellite is on a policy that the database does not have: it was set back. Start the satellite's agent "
            "again, so that it takes the current policy",
            satellite=str(connection.satellite),
            applied_revision=revision,
        )
        return True
