"""What the satellite does about each frame of one connection.

It is decided here, without a socket, a clock or a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ringfence.sandbox import PolicySnapshot

from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.scheduled.assignments import Assign, HeldAssignments
from ringfence_satellite.protocol import (
    AssignmentsChanged,
    Authenticated,
    AuthFailed,
    CancelRun,
    CloseCode,
    ConfigUpdated,
    FactsChanged,
    ProtocolError,
    RefreshScriptPackages,
    ResultAck,
    RunScript,
    RunSecrets,
    SandboxPolicyPushed,
    ScriptPackagePiece,
    Shutdown,
    parse_from_host,
)
from ringfence_satellite.protocol.assignments import Assigned, MismatchError, apply

UNREADABLE_POLICY = "the host sent a policy that cannot be read"
_POLICY_TYPES = (Authenticated.TYPE, SandboxPolicyPushed.TYPE)


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the host which revision governs the next run, and what of it holds here."""

    snapshot: PolicySnapshot
    revision: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class StartRun:
    """Run a script, under whatever policy holds when it starts."""

    frame: RunScript


@dataclass(frozen=True, slots=True)
class StopRun:
    """End a run where it is, if it is here."""

    frame: CancelRun


@dataclass(frozen=True, slots=True)
class Welcome:
    """The host has let this satellite in; heartbeats may begin, and so may the delivery of results."""

    satellite_id: str
    acknowledges_results: bool = False
    keeps_runs: bool = False
    limits_follow_schedules: bool = False
    tells_packages: bool = False


@dataclass(frozen=True, slots=True)
class Learn:
    """What scripts here may be told of this satellite is this from now on."""

    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Confirm:
    """The host has confirmed that these are all assignments, by their ids, which are held already."""

    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class AskForAssignments:
    """Ask the host for all assignments, since a difference did not fit what is `held`."""

    held: str


@dataclass(frozen=True, slots=True)
class Settle:
    """The host has, or will never take, a result."""

    frame: ResultAck


@dataclass(frozen=True, slots=True)
class HandOver:
    """Whoever asked for these secrets gets them, or the reason why not."""

    frame: RunSecrets


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection, and come back later.

    `refused`: the host did not accept who we say we are, and so has nothing for us to do.
    """

    code: CloseCode
    reason: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class HavePackages:
    """Have these sets of packages from now on, by name the hash of the lock."""

    sets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HandPiece:
    """Whoever asked for this piece of a package gets it."""

    frame: ScriptPackagePiece


Action = (
    Acknowledge
    | StartRun
    | StopRun
    | Welcome
    | Learn
    | Assign
    | Confirm
    | AskForAssignments
    | Settle
    | HandOver
    | HavePackages
    | HandPiece
    | Leave
)


class Conversation:
    """One connection to a host, from the satellite's side.

    It changes `policy` and `assigned`; everything else it asks for.
    """

    def __init__(self, policy: AppliedPolicy, assigned: HeldAssignments) -> None:
        self._policy = policy
        self._assigned = assigned
        self._asked_for_assignments = False
        self._welcomed = False

    def received(self, text: str) -> tuple[Action, ...]:
        """What to do about one frame. Never raises: a frame that cannot be read ends the connection.

        By the time that this returns, a policy in the frame is in force: what is acknowledged already holds.
        """
        try:
            frame = parse_from_host(text)
        except ProtocolError as error:
            # It may have been a stricter policy. Which one it was nobody here can say, so none is trusted.
            if any(f'"{name}"' in text for name in _POLICY_TYPES):
                self._policy.state = self._policy.state.untold(UNREADABLE_POLICY)
            return (Leave(error.code, str(error)),)
        match frame:
            case Authenticated():
                self._welcomed = True
                welcome = Welcome(
                    frame.satellite_id,
                    frame.acknowledges_results,
                    frame.keeps_runs,
                    frame.limits_follow_schedules,
                    frame.tells_packages,
                )
                return (
                    welcome,
                    Learn(frame.facts or {}),
                    *_packages_of(frame),
                    *self._authenticated(frame),
                    *self._welcomed_to(frame),
                )
            case ConfigUpdated() if self._welcomed:
                self._asked_for_assignments = False
                return (self._assigned.take(Assigned.read(frame.assignments)),)
            case AssignmentsChanged() if self._welcomed:
                return self._changed(frame)
            case FactsChanged() if self._welcomed:
                return (Learn(frame.facts),)
            case RefreshScriptPackages() if self._welcomed and frame.sets is not None:
                return (HavePackages(frame.sets),)
            case ScriptPackagePiece() if self._welcomed:
                return (HandPiece(frame),)
            case ResultAck() if self._welcomed:
                return (Settle(frame),)
            case RunSecrets() if self._welcomed:
                return (HandOver(frame),)
            case SandboxPolicyPushed():
                told = self._told(frame.policy, frame.revision)
                return tuple(
                    replace(one, traceparent=frame.traceparent) if isinstance(one, Acknowledge) else one
                    for one in told
                )
            case RunScript() if self._welcomed:
                return (StartRun(frame),)
            case CancelRun() if self._welcomed:
                return (StopRun(frame),)
            case AuthFailed():
                return (Leave(CloseCode.BACK_SOON, frame.reason, refused=True),)
            case Shutdown():
                return (Leave(CloseCode.BACK_SOON, f"the host is going away: {frame.reason}"),)
            case _:
                return ()

    def _authenticated(self, frame: Authenticated) -> tuple[Action, ...]:
        if frame.sandbox_policy is None or frame.sandbox_policy_revision is None:
            self._policy.state = self._policy.state.untold()
            return ()
        if (replaces := frame.sandbox_policy_replaces) is not None:
            self._policy.state = self._policy.state.replaced(
                replaces, frame.sandbox_policy, frame.sandbox_policy_revision
            )
        return self._told(frame.sandbox_policy, frame.sandbox_policy_revision)

    def _welcomed_to(self, frame: Authenticated) -> tuple[Action, ...]:
        if frame.assignments is None and frame.assignments_digest is not None:
            # What is held is what is wanted, or what has to be changed comes next.
            held = self._assigned.current
            return (Confirm(frozenset(held.items)),) if frame.assignments_digest == held.digest else ()
        assign = self._assigned.take(Assigned.read(frame.assignments or ()))
        return (assign if frame.assignments is not None else replace(assign, named=None),)

    def _changed(self, frame: AssignmentsChanged) -> tuple[Action, ...]:
        try:
            return (self._assigned.take(apply(self._assigned.current, frame.difference())),)
        except MismatchError:
            if self._asked_for_assignments:
                return ()
            self._asked_for_assignments = True
            return (AskForAssignments(self._assigned.current.digest),)

    def _told(self, policy: object, revision: int) -> tuple[Action, ...]:
        state = self._policy.state = self._policy.state.told(policy, revision)
        # An overtaken answer is answered with the newer revision that holds, unless the fail-closed profile
        # does: acknowledging a revision that is not in force would be a lie.
        if state.is_open and state.revision is not None:
            return (Acknowledge(state.snapshot, state.revision),)
        return ()


def _packages_of(frame: Authenticated) -> tuple[Action, ...]:
    """What a welcome says of packages. One that does not know yet which there are says nothing."""
    return () if frame.script_packages is None else (HavePackages(frame.script_packages),)
