"""What `notify` says: a message, and the channel that it goes by."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, StringConstraints
from ringfence import WireModel
from ringfence.bounded import STORABLE

from ringfence_automations.bodies.marked import Templated


class Notify(WireModel):
    """A message for people. Without a `title` it has the automation's name; `group` is what is told of together."""

    model_config = ConfigDict(extra="forbid")

    channel: Annotated[str, StringConstraints(min_length=1, max_length=100), STORABLE]
    text: Templated
    title: Templated | None = None
    severity: Literal["info", "warning", "error", "critical"] = "info"
    group: Templated | None = None
    link: Templated | None = None
