"""What a change of the policy would do, before it holds: asked of every plugin that has something to say."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ringfence import PluginContext
from ringfence.redaction import describe
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.plan.model import Inputs
from ringfence.sandbox.plan.outlook import Fate, Outlook, outlook
from ringfence.sandbox.policy import PolicyChange, SandboxPolicy, changes, loosened
from ringfence.sandbox.policy.blocked import shadowed
from ringfence.sandbox.policy.provider import PolicySnapshot
from ringfence.scripts.running.hosts_view import with_host

from ringfence_script_packages.service import (
    PolicyPreviewer,
    PolicyState,
    ProposedPolicy,
    Prospect,
    Prospects,
)

ANSWER_SECONDS = 10.0
"""How long a plugin may think about a change before nothing is known of what it looks after."""
MOST_NAMED = 100
"""How many of each kind are named; all are counted."""
MOST_REASONS = 10
MOST_TEXT = 500
MOST_NOTES = 10
"""How many entries of the allowlist are named that stay blocked."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do. `unforeseen` says of whom nothing is known, and why."""

    current: PolicyState
    after: SandboxPolicy
    prospects: Sequence[Prospects]
    unforeseen: Sequence[str]

    @property
    def changed(self) -> bool:
        """Whether there would be a new revision."""
        received = self.current.received
        return self.after != received.policy or bool(received.not_understood)

    @property
    def changes(self) -> Sequence[PolicyChange]:
        """Each setting that would differ."""
        return changes(self.current.received.policy, self.after)

    @property
    def looser(self) -> Sequence[str]:
        """What scripts could do then that they cannot do now."""
        return loosened(self.current.received.policy, self.after)

    @property
    def breaks(self) -> int:
        """How many things would be worse off."""
        return sum(each.breaks for of_kind in self.prospects for each in of_kind.each)

    @property
    def is_questionable(self) -> bool:
        """Whether somebody should be asked first: it gets looser, something would break, or nobody can say."""
        return self.changed and bool(self.looser or self.breaks or self.unforeseen)

    def to_wire(self) -> dict[str, Any]:
        """The preview as JSON for the API."""
        return {
            "revision": self.current.revision,
            "changed": self.changed,
            "policy": self.after.to_wire(),
            "changes": [{"path": one.path, "before": one.before, "after": one.after} for one in self.changes],
            "looser": list(self.looser),
            "breaks": self.breaks,
            "prospects": [_wire(of_kind) for of_kind in self.prospects],
            "unforeseen": list(self.unforeseen),
        }


class Previews:
    """Foresees what changes would do to this instance and to what other plugins look after."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def of(self, current: PolicyState, after: SandboxPolicy) -> Preview:
        """What it would do if the policy was `after`."""
        proposed = ProposedPolicy(current.received.policy, after)
        previewers = [ThisInstance(), *self._context.services.extensions(PolicyPreviewer)]
        told = await asyncio.gather(*(self._asked(each, proposed) for each in previewers))
        return Preview(
            current,
            after,
            [each for each in told if isinstance(each, Prospects)],
            [each for each in told if isinstance(each, str)],
        )

    async def _asked(self, previewer: PolicyPreviewer, proposed: ProposedPolicy) -> Prospects | str:
        """What it says, or that and why it says nothing: one that fails must not hide what the others know."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await previewer.preview(proposed)
        except Exception as error:
            name = type(previewer).__module__.partition(".")[0]
            self._context.logger.warning("cannot foresee a policy", plugin=name, error=describe(error))
            return f"{name} cannot say what the change would do: {type(error).__name__}"


class ThisInstance:
    """The runs of the host that was asked; other instances are machines of their own, and not looked at."""

    async def preview(self, proposed: ProposedPolicy) -> Prospects:
        """See `PolicyPreviewer`."""
        return await asyncio.to_thread(_here, proposed)


def _here(proposed: ProposedPolicy) -> Prospects:
    capabilities = probe()

    def would(policy: SandboxPolicy) -> Outlook:
        def prepared(inputs: Inputs) -> Inputs:
            return with_host(inputs, policy)

        return outlook(capabilities, PolicySnapshot(policy), prepared)

    before, after = would(proposed.before), would(proposed.after)
    return Prospects("instance", [Prospect("this host", after.fate, before.fate, after.reasons)])


def without_effect(policy: SandboxPolicy) -> list[str]:
    """What of a policy's allowlist stays blocked."""
    network = policy.network
    found = shadowed(network.entries, deny_link_local_and_metadata=network.deny_link_local_and_metadata)
    return [f"The entry {each}" for each in found[:MOST_NOTES]]


def _wire(of_kind: Prospects) -> dict[str, Any]:
    """Those that break first, then others that are not at their best; the rest is counted."""
    worth_naming = [one for one in of_kind.each if one.fate is not Fate.RUN]
    named = sorted(worth_naming, key=lambda one: (not one.breaks, one.name))[:MOST_NAMED]
    return {
        "kind": of_kind.kind,
        "total": len(of_kind.each),
        "breaks": sum(one.breaks for one in of_kind.each),
        "fates": dict(Counter(one.fate.value for one in of_kind.each)),
        "named": [_named(one) for one in named],
    }


def _named(one: Prospect) -> dict[str, Any]:
    return {
        "name": one.name,
        "id": one.id,
        "fate": one.fate.value,
        "was": one.was.value,
        "breaks": one.breaks,
        "reasons": [reason[:MOST_TEXT] for reason in one.reasons[:MOST_REASONS]],
    }
