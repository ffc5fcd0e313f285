"""The access rules of git repositories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ringfence import AccessRule, Registry


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The rights, each on its own."""

    read: AccessRule
    manage: AccessRule
    sync: AccessRule
    release: AccessRule

    @classmethod
    def declared(cls, registry: Registry) -> Self:
        """Declare them."""
        return cls(
            read=registry.access_rule("source", "read", "See git repositories and how following them goes"),
            manage=registry.access_rule(
                "source", "manage", "Add, change and remove git repositories, which act for whoever does"
            ),
            sync=registry.access_rule("source", "sync", "Have a git repository followed at once"),
            release=registry.access_rule(
                "object",
                "release",
                "Release objects from git, so that they can be changed, and give them back",
            ),
        )
