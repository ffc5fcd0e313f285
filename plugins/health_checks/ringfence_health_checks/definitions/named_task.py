"""A task by a name, of a system and with a timeout: what a check and a try have in common. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictFloat
from ringfence.bounded import Label
from ringfence.scripts import Task

MAX_TIMEOUT_SECONDS = 3600.0
DEFAULT_TIMEOUT_SECONDS = 30.0


class NamedTask(Task):
    """What is run for a check, or would be."""

    name: Label
    system: Label
    timeout_seconds: Annotated[StrictFloat, Field(ge=0.001, le=MAX_TIMEOUT_SECONDS)] = DEFAULT_TIMEOUT_SECONDS

    @property
    def timeout_ms(self) -> int:
        """The timeout in whole milliseconds, at least 1."""
        return max(1, round(self.timeout_seconds * 1000))

    @property
    def facts(self) -> dict[str, str]:
        """What a run is told of the check."""
        return {"check.name": self.name, "check.system": self.system}
