"""What a satellite calls a run, and a run's secrets, as the id that the run has here. Pure."""

from __future__ import annotations

from uuid import UUID


def id_of(run_id: str) -> UUID | None:
    """The id; None for a text that is the id of no run."""
    try:
        return UUID(run_id)
    except ValueError:
        return None


_SECRETS_OF = "run:"


def config_of(run: UUID) -> str:
    """What a run with secrets names as its assignment (`config_id`), by which the satellite asks for them."""
    return f"{_SECRETS_OF}{run}"


def run_of(config_id: str) -> UUID | None:
    """The run whose secrets are asked for by this; None if it is an assignment of another kind."""
    return id_of(config_id.removeprefix(_SECRETS_OF)) if config_id.startswith(_SECRETS_OF) else None
