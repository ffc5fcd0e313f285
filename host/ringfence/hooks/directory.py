"""The hooks that the plugins of one instance declare: what can be listened to, and what each event tells."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ringfence.hooks.facts import Hook


@dataclass(frozen=True, slots=True)
class DeclaredHook:
    """A stored hook, and who declares it: a plugin of this instance, or `host` for the host itself."""

    hook: Hook[Any]
    plugin: str

    @property
    def name(self) -> str:
        """What it is called."""
        return self.hook.name

    @property
    def model(self) -> type[BaseModel]:
        """What its payload is."""
        return self.hook.payload

    @property
    def payload_rule(self) -> str | None:
        """The access rule that shows payloads over HTTP."""
        return self.hook.payload_rule

    @property
    def meaning(self) -> str:
        """The first paragraph of what its model says about itself, on one line."""
        documented = inspect.getdoc(self.model) if "__doc__" in vars(self.model) else None
        return " ".join((documented or "").partition("\n\n")[0].split())


class HookDirectory:
    """The stored hooks of the plugins that take part."""

    def __init__(self) -> None:
        self._declared: dict[str, DeclaredHook] = {}

    def add(self, plugin: str, hooks: Iterable[Hook[Any]]) -> None:
        """These are declared by `plugin`. What is not stored is left out: nobody but its own process hears of it."""
        self._declared |= {hook.name: DeclaredHook(hook, plugin) for hook in hooks if hook.stored}

    def remove_plugin(self, plugin: str) -> None:
        """`plugin` does not take part any more."""
        self._declared = {name: one for name, one in self._declared.items() if one.plugin != plugin}

    def all(self) -> tuple[DeclaredHook, ...]:
        """Every one, by name."""
        return tuple(self._declared[name] for name in sorted(self._declared))

    def find(self, name: str) -> DeclaredHook | None:
        """The one of this name, if a plugin here declares it."""
        return self._declared.get(name)
