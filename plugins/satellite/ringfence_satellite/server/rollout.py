"""How far a change of the policy has come: who has it, who lags, and who had to downgrade.

It is read from durable state, so that every instance gives the same answer.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ringfence import PluginContext
from ringfence.sandbox.policy import OnUnavailable
from ringfence_script_packages.service import SandboxPolicyService
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.server.satellites import STATUS

MAX_NAMED = 100
"""How many of those that lag, or had to downgrade, are named; all are counted."""

HAS_IT = "coalesce(applied_revision >= :revision AND NOT applied_unknown, false)"
"""The SQL expression for whether a satellite has the revision: one that the database does not have is no later one."""
_COUNTS = text(f"""
    SELECT count(*) FILTER (WHERE status = 'online') AS online,
           count(*) FILTER (WHERE status = 'online' AND has_it) AS applied,
           count(*) FILTER (WHERE status = 'offline') AS offline,
           count(*) FILTER (WHERE status = 'never') AS never,
           count(*) FILTER (WHERE status = 'online' AND has_it AND downgrades <> '[]') AS downgraded,
           count(*) FILTER (WHERE status = 'online' AND applied_unknown) AS unknown,
           max(applied_at) FILTER (WHERE status = 'online' AND applied_revision = :revision) AS last_applied_at
      FROM (SELECT {STATUS} AS status, {HAS_IT} AS has_it, applied_revision,
                   applied_unknown, applied_at, downgrades
              FROM satellite_satellites) AS fleet
""")  # noqa: S608
_NAMED = text(f"""
    SELECT id, name, region, {STATUS} AS status, applied_revision, applied_unknown, applied_at, last_heartbeat_at,
           downgrades
      FROM satellite_satellites
     WHERE {STATUS} = 'online'
       AND CASE WHEN :lagging THEN NOT {HAS_IT} ELSE {HAS_IT} AND downgrades <> '[]' END
     ORDER BY applied_unknown DESC, applied_revision NULLS FIRST, name LIMIT :limit
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Rollout:
    """The progress of one revision.

    Only satellites that are online can take part in it; the others have it as soon as they come back. `unknown` of
    them are on a revision that the database does not have: they lag. Those that cannot enforce all of it are
    `downgraded`, and with `refuses` they refuse every run.
    """

    revision: int
    refuses: bool
    changed_at: dt.datetime | None
    changed_by: str | None
    online: int
    applied: int
    offline: int
    never: int
    downgraded_count: int
    unknown: int
    last_applied_at: dt.datetime | None
    lagging: Sequence[dict[str, Any]]
    downgraded: Sequence[dict[str, Any]]

    @property
    def percent(self) -> float:
        """How many of the satellites that are online have it; with none online, there is nothing left to do.

        Rounded down, so that 100 means all.
        """
        return 100.0 if not self.online else int(1000 * self.applied / self.online) / 10

    def to_wire(self) -> dict[str, Any]:
        """The rollout as JSON for the API."""
        return {
            "revision": self.revision,
            "changedAt": self.changed_at,
            "changedBy": self.changed_by,
            "online": self.online,
            "applied": self.applied,
            "offline": self.offline,
            "never": self.never,
            "percent": self.percent,
            "complete": self.applied == self.online,
            "lastAppliedAt": self.last_applied_at,
            "lagging": list(self.lagging),
            "laggingCount": self.online - self.applied,
            "unknownCount": self.unknown,
            "downgraded": list(self.downgraded),
            "downgradedCount": self.downgraded_count,
            "refusingCount": self.downgraded_count if self.refuses else 0,
        }


async def read_rollout(
    session: AsyncSession,
    revision: int,
    *,
    refuses: bool,
    changed_at: dt.datetime | None,
    changed_by: str | None,
) -> Rollout:
    """The progress of `revision`, which was written at `changed_at` by `changed_by`.

    `refuses`: whoever cannot enforce all of it refuses runs.
    """
    counts = (await session.execute(_COUNTS, {"revision": revision})).one()
    named = [
        [_named(row) for row in await session.execute(_NAMED, values)]
        for values in (
            {"revision": revision, "lagging": lagging, "limit": MAX_NAMED} for lagging in (True, False)
        )
    ]
    return Rollout(
        revision=revision,
        refuses=refuses,
        changed_at=changed_at,
        changed_by=changed_by,
        online=counts.online,
        applied=counts.applied,
        offline=counts.offline,
        never=counts.never,
        downgraded_count=counts.downgraded,
        unknown=counts.unknown,
        last_applied_at=counts.last_applied_at,
        lagging=named[0],
        downgraded=named[1],
    )


async def rollout_now(context: PluginContext) -> Rollout:
    """The progress of the policy that holds."""
    state = await context.services.get(SandboxPolicyService).current()
    async with context.sessions() as session:
        return await read_rollout(
            session,
            state.revision,
            refuses=state.received.policy.on_unavailable is OnUnavailable.FAIL,
            changed_at=state.updated_at,
            changed_by=state.updated_by,
        )


def _named(row: Any) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "name": row.name,
        "region": row.region,
        "status": row.status,
        "appliedRevision": row.applied_revision,
        "appliedUnknown": row.applied_unknown,
        "appliedAt": row.applied_at,
        "lastHeartbeatAt": row.last_heartbeat_at,
        "downgrades": row.downgrades,
    }
