"""This instance's copy of the policy, kept by the broadcast hook.

Threat: an instance that is cut off from the database goes on running scripts under a policy that an admin has since
tightened. Mechanism: see `ringfence.fleet.replica`; where the copy may not be believed the row is read, and if that
fails, or takes long, the caller is fail-closed. A database that was set back has another history, with lower revisions
or the same ones again: so what the row says holds even where it is older than what was copied before.
"""

from __future__ import annotations

from ringfence import Event, PluginContext
from ringfence.sandbox.policy.provider import PolicySnapshot, PolicySource

from ringfence_script_packages.hooks import SandboxPolicyChanged
from ringfence_script_packages.policy_store import SandboxPolicies
from ringfence_script_packages.service import PolicyState

READ_SECONDS = 5.0
"""How long a run waits for the policy before it is fail-closed."""


class PolicyHolder:
    """Implements `SandboxPolicyService`, and is the policy provider of the process."""

    def __init__(self, context: PluginContext, policies: SandboxPolicies) -> None:
        self._context = context
        self._policies = policies
        self._copy = context.replica(self.stored, newer=_newer)
        self.known, self.keep = self._copy.known, self._copy.keep

    async def current(self) -> PolicyState:
        """See `SandboxPolicyService`."""
        return await self._copy.current()

    async def stored(self) -> PolicyState:
        """See `SandboxPolicyService`."""
        return await self._context.answer_within(
            READ_SECONDS, self._policies.current(), name="the stored sandbox policy"
        )

    async def on_change(self, event: Event[SandboxPolicyChanged]) -> None:
        """Take over a new revision."""
        fact = event.payload
        self.keep(PolicyState(fact.policy, fact.revision, fact.changed_at, fact.actor))

    async def provide(self) -> PolicySnapshot:
        """Answer the sandbox's provider: which policy holds for the run that starts now."""
        state = await self.current()
        return PolicySnapshot(
            state.received.policy,
            revision=state.revision,
            source=PolicySource.STORED if state.revision else PolicySource.DEFAULT,
            not_understood=state.received.not_understood,
        )


def _newer(held: PolicyState, other: PolicyState) -> PolicyState:
    """Reads and events may arrive in either order."""
    return other if other.revision >= held.revision else held
