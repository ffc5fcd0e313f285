"""What a satellite calls a run, as the id that the run has here. Pure."""

from __future__ import annotations

from uuid import UUID


def id_of(run_id: str) -> UUID | None:
    """The id; None for a text that is the id of no run."""
    try:
        return UUID(run_id)
    except ValueError:
        return None
