"""docs/built-in-plugins.md: every hook, service and extension point of the built-in plugins is told of, as it is."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ringfence.eventlog
from ringfence import Hook
from ringfence.plugins.discovery import discover
from ringfence.plugins.registry import Registry
from ringfence.plugins.services import ServiceDirectory

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "built-in-plugins.md").read_text()
PLUGINS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["ringfence.plugins"]


def section(heading: str) -> str:
    """What is below a heading that holds these words, until the next one."""
    found = re.search(rf"^#+ [^\n]*{re.escape(heading)}[^\n]*\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)
    assert found is not None, f"no heading tells of {heading}"
    return found[1]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of its tables, by what stands first: what they quote in the second column."""
    found = re.findall(r"^\| `([^`]+)` \| (.*?) \|", text, re.M)
    return {name: re.findall(r"`([^`]+)`", payload) for name, payload in found}


def module_of(plugin: str, name: str) -> ModuleType | None:
    package = PLUGINS[plugin].partition(".")[0]
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError:
        return None


class Noted(ServiceDirectory):
    """Notes which interfaces are declared."""

    __slots__ = ("interfaces",)

    def __init__(self) -> None:
        super().__init__()
        self.interfaces: list[type] = []

    def declare(self, interface: type, *, plugin: str) -> None:
        self.interfaces.append(interface)

    def declare_point(self, interface: type, *, plugin: str) -> None:
        self.interfaces.append(interface)


def declared(plugin: str) -> tuple[Registry, list[type]]:
    """What the plugin declares, and its services and extension points."""
    [found] = [one for one in discover() if one.info.id == plugin]
    noted = Noted()
    registry = Registry(plugin, noted)
    found.register(registry)  # type: ignore[attr-defined]
    return registry, noted.interfaces


def hooks_in(module: ModuleType) -> dict[str, Hook[Any]]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Hook)}


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_every_hook_that_a_plugin_declares_is_there_with_its_payload(plugin: str) -> None:
    module = module_of(plugin, "hooks")
    hooks = {} if module is None else hooks_in(module)
    assert set(declared(plugin)[0].hooks) == {hook.name for hook in hooks.values()}
    if module is not None:
        told = rows(section(module.__name__))
        assert told == {
            name: [*hook.payload.model_fields, *hook.payload.model_computed_fields]
            for name, hook in hooks.items()
        }


def test_what_events_tell_is_shown_only_to_those_who_hold_a_rule() -> None:
    """Whoever may write automations would otherwise read by them what they may not see."""
    registries = [declared(plugin)[0] for plugin in PLUGINS]
    rules = {rule for registry in registries for rule in registry.rules}
    hooks = [hook for registry in registries for hook in registry.hooks.values() if hook.stored]
    assert [hook.name for hook in hooks if hook.payload_rule not in rules] == []


def test_the_hosts_own_hook_is_there_with_its_payload() -> None:
    hooks = hooks_in(ringfence.eventlog)
    told = rows(section("ringfence.eventlog"))
    assert told == {
        name: [*hook.payload.model_fields, *hook.payload.model_computed_fields]
        for name, hook in hooks.items()
    }


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_every_service_and_extension_point_is_there_with_its_calls(plugin: str) -> None:
    interfaces = declared(plugin)[1]
    for interface in interfaces:
        text = section(f"`{interface.__name__}`")
        calls = {name for name in vars(interface) if not name.startswith("_")}
        told = {re.sub(r"await (\w+)\(.*", r"\1", name) for name in rows(text)}
        assert told == calls
    module = module_of(plugin, "service")
    assert bool(interfaces) == (module is not None)


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_every_name_that_a_service_module_exports_is_told_of(plugin: str) -> None:
    module = module_of(plugin, "service")
    if module is None:
        return
    own = {
        name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
    }
    names = {name for name in {*own, *getattr(module, "__all__", ())} if not name.startswith("_")}
    assert [name for name in sorted(names) if not re.search(rf"`[^`]*\b{name}\b", PAGE)] == []
