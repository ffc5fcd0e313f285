"""Whether the policy that a satellite holds is one of this host's.

This is how a database that was set back is told from an answer that was overtaken. Pure, and the same on both sides.

Threat: a database is restored to an older revision. Satellites that go on running hold a higher one, which nobody
can read any more; by the rule that a satellite only moves to a higher revision they would keep it, and ignore every
new policy until its number passes theirs. To let lower revisions in again would give up that rule: an answer that a
change has overtaken could undo the change.

Mechanism: a satellite says what it holds (revision, and a digest of the policy) when it authenticates. A host that
does not find that in its own policy asks the database once more, *after* it was told: what a satellite holds had been
committed before it was sent, so a database that does not have it now has been set back, and the answer is not stale.
Only then, and naming exactly what the satellite holds, does the host say that the policy in its welcome replaces that
one. The satellite follows if it still holds just that. A host that cannot read the database says nothing, and the
satellite keeps what it has. Not covered: whoever holds the host decides what the policy is; and satellites of releases
that do not say what they hold stay where they are until they are started again, which the fleet's state shows.
"""

from __future__ import annotations

from ringfence_satellite.protocol import HeldPolicy


def contradicts(held: HeldPolicy, *, revision: int, digest: str) -> bool:
    """Whether what a satellite holds cannot come from a history that ends with this revision."""
    return held.revision > revision or (held.revision == revision and held.digest != digest)
