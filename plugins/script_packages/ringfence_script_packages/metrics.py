"""The metrics of the policy: which revision is stored, and which one this instance applies."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.metrics import Metric, gauge

from ringfence_script_packages.policy_copy import PolicyHolder


async def of_policy(holder: PolicyHolder) -> Sequence[Metric]:
    """Both revisions. Where this instance's copy may not be believed, it applies what is stored, or refuses."""
    known = holder.known()
    stored = await holder.stored()
    return [
        gauge(
            "ringfence_policy_stored_revision",
            "The revision of the policy in the database; 0: the shipped default holds",
            stored.revision,
        ),
        gauge(
            "ringfence_policy_applied_revision",
            "The revision that runs of this instance have; absent while its copy may not be believed",
            {} if known is None else {(): float(known.revision)},
        ),
        gauge(
            "ringfence_policy_enabled",
            "1 while runs have a sandbox, as the stored policy says",
            float(stored.received.policy.enabled),
        ),
    ]
