"""How bad something is, for whoever is told of it."""

from __future__ import annotations

import enum


class Severity(enum.StrEnum):
    """How bad something is, from `info` to `critical`."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """The place in the order, from 0."""
        return _BY_RANK.index(self)


_BY_RANK = (Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.CRITICAL)
