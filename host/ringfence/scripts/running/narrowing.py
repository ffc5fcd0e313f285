"""The policy of one run: what the policy that holds gives to something that says, or does not say, what it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ringfence.sandbox import (
    Downgrade,
    Needs,
    Note,
    PolicySnapshot,
    SandboxPolicy,
    SandboxReport,
    beyond,
    governing,
)
from ringfence.sandbox.policy import Missing
from ringfence.sandbox.report import PolicyOrigin
from ringfence.scripts.result import SCRIPT

NEEDS = "needs"
"""The layer, in a report, of what a run needs and the policy does not give."""

MOST_MISSING = 10
"""So many lines that a policy lacks are told one by one."""

PLAIN = (
    "it does not say what it needs, and the policy requires that (needsRequired): it has the plain sandbox, without a "
    "network and without a view of the host"
)


@dataclass(frozen=True, slots=True)
class Governed:
    """The policy that a run is under, which is never looser than the `ceiling`, and how its report tells of both."""

    ceiling: PolicySnapshot
    needs: Needs | None
    snapshot: PolicySnapshot

    @classmethod
    def of(cls, ceiling: PolicySnapshot, needs: Needs | None) -> Governed:
        """What something with these needs is under; None for what does not say."""
        policy = governing(ceiling.policy, needs)
        return cls(ceiling, needs, ceiling if policy is ceiling.policy else replace(ceiling, policy=policy))

    @property
    def policy(self) -> SandboxPolicy:
        """What it is under."""
        return self.snapshot.policy

    @property
    def within(self) -> SandboxPolicy | None:
        """The policy of which what is shown of the host has to be a part; None where it is all of that."""
        return None if self.needs is None else self.ceiling.policy

    def refusal(self) -> SandboxReport | None:
        """Why it does not run, if it needs more than the policy gives, whatever `onUnavailable` says."""
        if self.needs is None or not (missing := beyond(self.ceiling.policy, self.needs)):
            return None
        origin = PolicyOrigin(
            source=self.ceiling.source, revision=self.ceiling.revision, reason=self.ceiling.reason
        )
        downgrade = Downgrade(layer=NEEDS, reason=told(missing))
        return SandboxReport(
            requested=self.ceiling.policy, origin=origin, needs=self.needs, downgrades=(downgrade,)
        )

    def told(self, report: SandboxReport) -> SandboxReport:
        """A run's report with the policy that holds, and what was needed of it."""
        if self.needs is None and self.policy is self.ceiling.policy:
            return report
        notes = report.notes
        if self.needs is None and self.policy != self.ceiling.policy:
            notes = (*notes, Note(layer=SCRIPT, note=PLAIN))
        return report.model_copy(
            update={"requested": self.ceiling.policy, "needs": self.needs, "notes": notes}
        )


def told(missing: tuple[Missing, ...]) -> str:
    """What a policy lacks, in words and lines of it."""
    lines = "; ".join(map(str, missing[:MOST_MISSING]))
    more = len(missing) - MOST_MISSING
    rest = f"; and {more} more" if more > 0 else ""
    return f"this needs more than the policy allows; the policy lacks {lines}{rest}"
