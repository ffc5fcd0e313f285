"""Letting a satellite in: its token is checked, and it is welcomed with the policy and what it is assigned.

Threat: anybody may say that it is a satellite. Mechanism: a refusal says the same for an unknown satellite as for a
wrong token, with the same work; the connection is claimed before its token is looked up, so that one which is rotated
meanwhile ends it; and it is admitted before the policy is read, so that no change is missed (see `relay`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from uuid import UUID

import structlog
from ringfence.web import TextMessage

from ringfence_satellite.protocol import (
    MAX_FRAME_BYTES,
    Authenticate,
    Authenticated,
    ConfigUpdated,
    HeldPolicy,
)
from ringfence_satellite.protocol.assignments import Assigned
from ringfence_satellite.server.assigned_work import Work
from ringfence_satellite.server.batched import Batched
from ringfence_satellite.server.connections.assignment_messages import AssignmentMessages
from ringfence_satellite.server.connections.connection import Connection, SignIn
from ringfence_satellite.server.connections.relay import Relay, RelayedPolicy
from ringfence_satellite.server.journal import Journal
from ringfence_satellite.server.packages.offering import Offering
from ringfence_satellite.server.satellites import Credentials
from ringfence_satellite.server.tokens import matches
from ringfence_satellite.server.websocket.visit import Visit

REFUSED = "unknown satellite, or wrong token"
_log = structlog.get_logger("ringfence.satellite.admission")


class NotAdmittedError(Exception):
    """The peer is not let in; the message is the reason that it is given."""


class Admission:
    """Makes an admitted connection of a visit whose first frame was `authenticate`."""

    def __init__(
        self,
        *,
        relay: Relay,
        journal: Journal,
        credentials: Batched[UUID, Credentials],
        work: Work,
        packages: Offering,
    ) -> None:
        self._packages = packages
        self._relay = relay
        self._journal = journal
        self._credentials = credentials
        self._work = work
        self._messages = AssignmentMessages()

    async def let_in(self, visit: Visit, hello: Authenticate, scope: asyncio.Timeout) -> Connection:
        """Let a satellite in and welcome it; `scope` is what wakes the task that serves it.

        Raises:
            NotAdmittedError: it is not let in.
        """
        connection = await self._admit(visit, hello, scope)
        if hello.platform is not None:
            await self._packages.on_platform(connection, hello.platform)
        policy, replaces = await self._policy(connection, hello)
        as_of = self._work.turn()
        assigned = connection.assign(await self._work.assignments(connection.identity), as_of)
        # Nothing is waited for from here on: what it is told of packages later is newer.
        sets = self._packages.welcome(connection, assigned)
        connection.welcome(
            TextMessage(_welcome(connection, hello, policy, replaces, assigned, sets).encode()),
            revision=None if policy is None else policy.revision,
            holds=assigned if hello.assignments_held is None else self._work.known(hello.assignments_held),
        )
        return connection

    async def _admit(self, visit: Visit, hello: Authenticate, scope: asyncio.Timeout) -> Connection:
        satellite = _satellite_id(hello.client_id)
        visit.connection = connection = Connection(
            visit.websocket,
            scope,
            satellite=satellite,
            id=uuid.uuid4(),
            tell=self._messages.whole if hello.assignments_held is None else self._messages.difference,
            traffic=self._relay.traffic,
        )
        # Claimed before the token is looked up: one that is rotated from here on ends this connection.
        self._relay.claim(connection)
        found = await self._credentials.get(connection.satellite)
        if not matches(hello.token, None if found is None else found.digest) or found is None:
            if found is not None:
                # Written later, so that the answer takes as long as for a satellite that is not known.
                self._journal.refused(connection.satellite)
            raise NotAdmittedError(REFUSED)
        if connection.ending is not None:
            raise NotAdmittedError(connection.ending[1])
        connection.admitted(
            SignIn(
                profile=found.profile,
                offline_after_seconds=found.offline_after_seconds,
                process=hello.process,
                runs=hello.runs,
                names_policy=hello.sandbox_policy_held is not None,
                understands=frozenset(hello.understands),
            )
        )
        visit.limit_messages(MAX_FRAME_BYTES)
        # Admitted before the policy is read: see `relay`. From here on every change comes to this outbox.
        self._relay.admit(connection)
        self._journal.arrived(
            connection.satellite, connection.id, version=hello.version, capabilities=hello.capabilities
        )
        return connection

    async def _policy(
        self, connection: Connection, hello: Authenticate
    ) -> tuple[RelayedPolicy | None, HeldPolicy | None]:
        """The policy to welcome it with, and what of the satellite's that replaces, if it does."""
        policy, replaces = await self._relay.policy_for(connection), None
        if policy is not None and isinstance(hello.sandbox_policy_held, HeldPolicy):
            policy, replaces = await self._relay.reconciled(policy, hello.sandbox_policy_held)
        if policy is not None and replaces is not None:
            _log.error(
                "a satellite holds a policy that the database does not have: it was set back. "
                "The satellite is told to take this policy",
                satellite=str(connection.satellite),
                held_revision=replaces.revision,
                revision=policy.revision,
            )
        return policy, replaces


def _welcome(
    connection: Connection,
    hello: Authenticate,
    policy: RelayedPolicy | None,
    replaces: HeldPolicy | None,
    assigned: Assigned,
    sets: Mapping[str, str] | None,
) -> Authenticated:
    takes_differences = hello.assignments_held is not None
    return Authenticated(
        satellite_id=str(connection.satellite),
        assignments=None if takes_differences else ConfigUpdated.of(assigned).assignments,
        assignments_digest=assigned.digest if takes_differences else None,
        sandbox_policy=None if policy is None else policy.policy,
        sandbox_policy_revision=None if policy is None else policy.revision,
        sandbox_policy_replaces=replaces,
        acknowledges_results=True,
        keeps_runs=True,
        facts=dict(connection.identity.facts),
        limits_follow_schedules=True,
        tells_packages=True,
        script_packages=None if sets is None else dict(sets),
    )


def _satellite_id(client_id: str) -> UUID:
    try:
        return UUID(client_id)
    except ValueError as error:
        raise NotAdmittedError(REFUSED) from error
