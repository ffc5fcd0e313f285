"""Other names by which definitions may call hooks. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from ringfence_automations.definitions.parts import HookName

ALIASES = {"satellite-lost": "satellite-heartbeat-lost"}
"""The hook that is meant, by each other name."""


def meant(name: str) -> str:
    """What the hook is called that a definition names."""
    return ALIASES.get(name, name)


def aliases_of(name: str) -> list[str]:
    """The other names of a hook."""
    return [alias for alias, hook in ALIASES.items() if hook == name]


NamedHook = Annotated[HookName, AfterValidator(meant)]
"""A hook by its name, or by another one: what is kept is its name."""
