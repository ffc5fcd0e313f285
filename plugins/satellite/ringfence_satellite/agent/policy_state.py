"""Which policy governs this satellite, and how that changes.

It is fail-closed at first, and only ever moves to a higher revision.

Pure: `PolicyState` is a value, and each event gives the next one. `AppliedPolicy` is the one place that
holds it, and is what the process's policy provider reads.

Threat: an answer that was overtaken by a change, a replayed or reordered frame, or a host that cannot read
its own policy must never loosen what scripts may do here. Mechanism: a policy is taken only when its
revision is above every revision taken before; a policy that is missing or cannot be read puts the
fail-closed profile in its place, until one comes that can. The one exception is a host that names just what is
held here and says that its database does not have that (any more): see `held_policy`. What this does not cover: whoever
holds the host decides what the policy is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, PolicySource, receive

from ringfence_satellite.protocol import HeldPolicy
from ringfence_satellite.protocol.digest import digest

NO_POLICY_YET = "this satellite has not been told a policy yet"
WITHHELD = "the host could not read the policy"


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What governs the next run, and the policy that was applied last (None: none was).

    No lower revision may follow that one.
    """

    snapshot: PolicySnapshot
    held: HeldPolicy | None = None

    @property
    def revision(self) -> int | None:
        """The revision that was applied last."""
        return None if self.held is None else self.held.revision

    @property
    def is_open(self) -> bool:
        """Whether a policy that an admin wrote is in force, rather than the fail-closed profile."""
        return self.snapshot.source is not PolicySource.FAIL_CLOSED

    def told(self, policy: object, revision: int) -> PolicyState:
        """After the host said: this is the policy, at this revision.

        One that is no higher than the one in force changes nothing. Where the fail-closed profile had to
        stand in, the revision that was applied before it is taken again, and no lower one.
        """
        if self.revision is not None and (
            revision < self.revision or (revision == self.revision and self.is_open)
        ):
            return self
        return self._applied(policy, revision)

    def replaced(self, replaces: HeldPolicy, policy: object, revision: int) -> PolicyState:
        """After the host said that its database does not have `replaces`, and what takes its place.

        The policy does, at whatever revision, if that is just what is held here; otherwise the host has told of a
        policy like any other.
        """
        return self._applied(policy, revision) if replaces == self.held else self.told(policy, revision)

    @staticmethod
    def _applied(policy: object, revision: int) -> PolicyState:
        received = receive(policy)
        is_default = revision == 0 and received.policy == DEFAULT_POLICY and not received.not_understood
        snapshot = PolicySnapshot(
            received.policy,
            revision=revision,
            source=PolicySource.DEFAULT if is_default else PolicySource.STORED,
            not_understood=received.not_understood,
        )
        return PolicyState(snapshot, HeldPolicy(revision=revision, digest=digest(policy)))

    def untold(self, reason: str = WITHHELD) -> PolicyState:
        """After the host left the policy out, or sent one that cannot be read.

        Fail-closed, whatever held before.
        """
        return replace(self, snapshot=PolicySnapshot.fail_closed(reason))


AT_START = PolicyState(PolicySnapshot.fail_closed(NO_POLICY_YET))


class AppliedPolicy:
    """The policy of this process. It outlives a lost connection: the last one applied goes on holding.

    `provider` is for `ringfence.sandbox.set_policy_provider`.
    """

    def __init__(self) -> None:
        self.state = AT_START

    async def provider(self) -> PolicySnapshot:
        """The policy that holds for a run that starts now."""
        return self.state.snapshot
