"""How many results in a row move a check's state, and how many changes hold it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field, StrictFloat, StrictInt
from ringfence import WireModel

MAX_IN_A_ROW = 100
MAX_CHANGES = 100


class Flapping(WireModel):
    """More changes than this within the window, in seconds, hold the state."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    changes: Annotated[StrictInt, Field(ge=2, le=MAX_CHANGES)] = 5
    window_seconds: Annotated[StrictFloat, Field(ge=1.0, le=30 * 86_400.0)] = 1800.0


DEFAULT_FLAPPING = Flapping()


@dataclass(frozen=True, slots=True)
class Patience:
    """How a check wants its states settled."""

    failures_before_alarm: int = 1
    successes_before_recovery: int = 1
    flapping: Flapping | None = DEFAULT_FLAPPING
