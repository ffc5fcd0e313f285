"""An automation as it is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError

from ringfence_automations.bodies.marked import secret_names
from ringfence_automations.definitions.definition import Definition


@dataclass(frozen=True)
class Revision:
    """One revision of an automation, which never changes.

    `acts_for` is what the API token was called whose rules its runs have, and `token` that token's id.
    """

    name: str
    revision: int
    definition: Definition
    acts_for: str
    token: str
    changed_at: dt.datetime
    changed_by: str
    position: int
    """Where the event stands that told of it."""

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "name": self.name,
            "revision": self.revision,
            "enabled": self.definition.enabled,
            "definition": self.definition.to_wire(),
            "actsFor": self.acts_for,
            "changedAt": self.changed_at,
            "changedBy": self.changed_by,
        }

    @cached_property
    def webhook_secrets(self) -> frozenset[str]:
        """The secrets of webhooks that are signed."""
        return frozenset(
            one.webhook.hmac.secret
            for one in self.definition.triggers
            if one.webhook is not None and one.webhook.hmac is not None
        )

    def secrets(self, kinds: Mapping[str, type[BaseModel]]) -> frozenset[str]:
        """The secrets that it names."""
        found = set(self.webhook_secrets)
        for step in self.definition.all_steps():
            if (model := kinds.get(step.kind)) is None:
                continue
            try:
                found |= secret_names(model.model_validate(step.body))
            except ValidationError:
                continue
        return frozenset(found)


@dataclass(frozen=True)
class Automation(Revision):
    """An automation as it is now: its newest revision, and who made it first."""

    created_at: dt.datetime
    created_by: str
    paused: str | None
    """Why the host has disabled it by itself; None if it is enabled, or if somebody has disabled it."""

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        now = {"createdAt": self.created_at, "createdBy": self.created_by, "paused": self.paused}
        return {**super().to_wire(), **now}
