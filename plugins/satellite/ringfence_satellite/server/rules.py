"""Who may do what with satellites. Each may be narrowed to those with some tags and labels.

Threat: what a satellite is assigned, and which secrets it is given with that, goes by its tags and labels, and by who
it is; and scripts that have secrets may be told its vars. So whoever gives these or tokens out can have the secrets of
checks that they may not even see. Mechanism: giving out tags, labels and vars, or a new token for a satellite that has
a place already, takes a rule of its own (`place`), as running a script does (`run`). Not covered: who may change a
check chooses where it runs, by the checks' own rules; and who may manage a satellite chooses its name and region, which
scripts may be told too.
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
                "Give satellites tags, labels, vars and new tokens, and with these what is assigned to them, "
                "secrets among it",
                narrowable=True,
            ),
            run=registry.access_rule("script", "run", "Run scripts on satellites", narrowable=True),
        )
