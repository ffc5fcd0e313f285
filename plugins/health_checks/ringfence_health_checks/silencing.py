"""What is silenced, as an expression over a place's newest result."""

from __future__ import annotations

SILENCED = "false"
"""The SQL expression for whether a change of this place is silenced."""
