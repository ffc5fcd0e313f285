"""The access rules of automations."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence import AccessRule, Registry


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Who may read, write and run automations. No rule implies another."""

    read: AccessRule
    manage: AccessRule
    run: AccessRule

    @classmethod
    def declared(cls, registry: Registry) -> AccessRules:
        """Declare the rules."""
        return cls(
            read=registry.access_rule("automation", "read", "See automations, their scripts and their runs"),
            manage=registry.access_rule(
                "automation", "manage", "Write, enable, disable and delete automations"
            ),
            run=registry.access_rule("automation", "run", "Start automations by hand, and cancel their runs"),
        )
