"""The access rules of the notifications plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ringfence import AccessRule, Registry


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The rights, each on its own."""

    read: AccessRule
    manage: AccessRule
    ack: AccessRule

    @classmethod
    def declared(cls, registry: Registry) -> Self:
        """Declare them."""
        return cls(
            read=registry.access_rule("channel", "read", "See channels, routes, incidents and messages"),
            manage=registry.access_rule("channel", "manage", "Change channels and routes, and send again"),
            ack=registry.access_rule("incident", "ack", "Acknowledge incidents, which ends their reminders"),
        )
