"""Who may do what with satellites. Each may be narrowed to those with some tags.

Threat: what a satellite is assigned, and which secrets it is given with that, goes by its tags, and by who it is. So
whoever gives out tags or tokens can have the secrets of checks that they may not even see. Mechanism: giving out tags,
or a new token for a satellite that has a place already, takes a rule of its own (`place`), as running a script does
(`run`). Not covered: who may change a check chooses where it runs, by the checks' own rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence import AccessRule, Registry


@dataclass(frozen=True, slots=True)
class FleetRules:
    """The access rules of the fleet."""

    read: AccessRule
    manage: AccessRule
    place: AccessRule
    run: AccessRule

    @classmethod
    def declare(cls, registry: Registry) -> FleetRules:
        """Declare them all."""
        return cls(
            read=registry.access_rule(
                "satellite", "read", "See satellites and how far a policy has come", narrowable=True
            ),
            manage=registry.access_rule(
                "satellite", "manage", "Register, rename and delete satellites", narrowable=True
            ),
            place=registry.access_rule(
                "satellite",
                "place",
                "Give satellites tags and new tokens, and with these what is assigned to them, secrets among it",
                narrowable=True,
            ),
            run=registry.access_rule("script", "run", "Run scripts on satellites", narrowable=True),
        )
