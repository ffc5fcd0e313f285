"""This instance's copy of the policy, kept by the broadcast hook, believed while the event log is followed live.

Threat: an instance that is cut off from the database goes on running scripts under a policy that an admin has since
tightened. Mechanism: the copy is used only while the tailer has lately reached the end of the log and no event has
been missed; otherwise the row is read, and if that fails, or takes long, the caller is fail-closed. A database that was
set back has another history, with lower revisions or the same ones again: so no copy outlives the connection on which
the log is followed, and what the row says holds even where it is older than the copy. Not covered: the seconds for
which the tailer counts as live (`ringfence.eventlog.tail.LIVE_SECONDS`).
"""

from __future__ import annotations

from ringfence import Event, PluginContext
from ringfence.eventlog import EventLogResumed
from ringfence.sandbox.policy.provider import PolicySnapshot, PolicySource

from ringfence_script_packages.hooks import SandboxPolicyChanged
from ringfence_script_packages.policies import SandboxPolicies
from ringfence_script_packages.service import PolicyState

READ_SECONDS = 5.0
"""How long a run waits for the policy before it is fail-closed."""


class PolicyHolder:
    """Implements `SandboxPolicyService`, and is the policy provider of the process."""

    def __init__(self, context: PluginContext, policies: SandboxPolicies) -> None:
        self._context = context
        self._policies = policies
        self._copy: PolicyState | None = None
        self._connections = 1

    def known(self) -> PolicyState | None:
        """The policy as this instance knows it without asking the database, while that may be believed."""
        return self._copy if self._context.tail_is_live else None

    async def current(self) -> PolicyState:
        """See `SandboxPolicyService`."""
        if (known := self.known()) is not None:
            return known
        connections = self._connections
        state = await self.stored()
        if connections == self._connections:
            self.keep(state)
        return state

    async def stored(self) -> PolicyState:
        """See `SandboxPolicyService`."""
        return await self._context.answer_within(
            READ_SECONDS, self._policies.current(), name="the stored sandbox policy"
        )

    async def on_change(self, event: Event[SandboxPolicyChanged]) -> None:
        """Take over a new revision."""
        fact = event.payload
        self.keep(PolicyState(fact.policy, fact.revision, fact.changed_at, fact.actor))

    async def on_resumed(self, _: Event[EventLogResumed]) -> None:
        """Forget what was copied before the connection was lost."""
        self._connections += 1
        self._copy = None

    async def provide(self) -> PolicySnapshot:
        """Answer the sandbox's provider: which policy holds for the run that starts now."""
        state = await self.current()
        return PolicySnapshot(
            state.received.policy,
            revision=state.revision,
            source=PolicySource.STORED if state.revision else PolicySource.DEFAULT,
            not_understood=state.received.not_understood,
        )

    def keep(self, state: PolicyState) -> None:
        """Remember the state unless a newer one is known: reads and events may arrive in either order."""
        if self._copy is None or state.revision >= self._copy.revision:
            # The same one again is left as it is, with what has been made of it.
            self._copy = self._copy if state == self._copy else state
