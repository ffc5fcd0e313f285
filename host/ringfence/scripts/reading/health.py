"""The four states of a system, and which of several is the worst. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Health(enum.StrEnum):
    """The state of a system; `UNKNOWN` is said by whoever could not look, and by a check that cannot tell."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"

    @property
    def severity(self) -> int:
        """How bad it is, from 0. Not to know is worse than degraded: it may be anything."""
        return _BY_SEVERITY.index(self)


_BY_SEVERITY = (Health.HEALTHY, Health.DEGRADED, Health.UNKNOWN, Health.UNHEALTHY)


def worst(states: Iterable[Health]) -> Health:
    """The worst of some states; of none it is unknown."""
    return max(states, key=lambda state: state.severity, default=Health.UNKNOWN)
