"""A route: from the events of a hook to channels, by expressions over the events."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StringConstraints, model_validator
from ringfence import WireModel
from ringfence.bounded import Finite, storable

ANY = "*"
"""Stands in the key of a recovery for whatever is in its place."""

RouteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
HookName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,99}$")]
Text = Annotated[str, StringConstraints(max_length=2000), AfterValidator(storable)]
Key = Annotated[tuple[Text, ...], Field(max_length=4)]
MAX_SECONDS = 30 * 86_400.0


class Recovery(WireModel):
    """Which events say that an incident of a route is over.

    `key` is that of the incidents which are over; where it is `*`, of all that have anything there. None: the route's.
    """

    model_config = ConfigDict(extra="forbid")

    hook: HookName
    filter: Text = "true"
    key: Key | None = None
    text: Text = ""


class Route(WireModel):
    """Which events are told, to whom, and in which words.

    `filter` is an expression over `event`, the payload of the hook; so is what stands in `{{ … }}` in `title`, `text`,
    `link`, `severity`, `group` and each part of `key`. Events of one `key` are one incident. If there are `recoveries`,
    an incident lasts until one of them says that it is over, and is told again every `repeat_seconds` until then;
    otherwise each event stands by itself, and after one was told, further ones of its key are gathered for
    `again_seconds`. What comes within `window_seconds` and has the same `group` becomes one message, in which the
    incidents are called by `what`, in the plural. `channels`: None for all of them.
    """

    model_config = ConfigDict(extra="forbid")

    name: RouteName
    hook: HookName
    filter: Text = "true"
    key: Key = ()
    group: Text = ""
    what: Annotated[str, StringConstraints(min_length=1, max_length=60), AfterValidator(storable)] = "events"
    title: Annotated[Text, StringConstraints(min_length=1)]
    text: Text = ""
    link: Text = ""
    severity: Text = "warning"
    recoveries: Annotated[tuple[Recovery, ...], Field(max_length=5)] = ()
    window_seconds: Annotated[Finite, Field(ge=0, le=3600)] = 30.0
    repeat_seconds: Annotated[Finite, Field(ge=60, le=MAX_SECONDS)] | None = None
    again_seconds: Annotated[Finite, Field(ge=0, le=MAX_SECONDS)] = 900.0
    channels: Annotated[tuple[str, ...], Field(max_length=50)] | None = None
    enabled: StrictBool = True

    @model_validator(mode="after")
    def _keys_fit(self) -> Route:
        if ANY in self.key:
            raise ValueError(f"{ANY} stands in the key of a recovery alone")
        for recovery in self.recoveries:
            if recovery.key is not None and len(recovery.key) != len(self.key):
                raise ValueError("the key of a recovery has as many parts as that of its route")
        return self

    @property
    def hooks(self) -> frozenset[str]:
        """The hooks whose events the route looks at."""
        return frozenset({self.hook, *(one.hook for one in self.recoveries)})
