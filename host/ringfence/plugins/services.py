"""Services and extension points: how one plugin offers an interface and another one finds it, by type.

A *service* has one implementation, provided by the plugin that declared it. An *extension point* is declared by one
plugin and filled by any number of others. Both go when their plugin fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar, cast

T = TypeVar("T")

Interface: TypeAlias = Callable[..., T]
"""The class, mostly a Protocol, by which a service or an extension is asked for.

It is not `type[T]`, as which type checkers let no Protocol pass, nor anything else that is abstract.
"""


def missing_methods(interface: type, implementation: object) -> tuple[str, ...]:
    """The methods of `interface` that `implementation` does not have."""
    names = {name for kind in interface.__mro__ if kind is not object for name in vars(kind)}
    wanted = [
        name for name in sorted(names) if not name.startswith("_") and callable(getattr(interface, name))
    ]
    return tuple(name for name in wanted if not callable(getattr(implementation, name, None)))


@dataclass(frozen=True, slots=True)
class PartialFake:
    """Stands for a service or an extension of which only what a test calls is there: it is taken as it is."""

    fake: object


class ServiceError(LookupError):
    """An interface cannot be provided or found; the message names who is missing or in the way."""


@dataclass(slots=True)
class ServiceDirectory:
    """Every service and extension of this instance, and who owns it."""

    _declared: dict[type, str] = field(default_factory=dict)
    _provided: dict[type, object] = field(default_factory=dict)
    _points: dict[type, str] = field(default_factory=dict)
    _extensions: dict[type, list[tuple[str, object]]] = field(default_factory=dict)
    _gone: dict[type, str] = field(default_factory=dict)

    def declare(self, interface: type, *, plugin: str) -> None:
        """Note that `plugin` will provide `interface`. Raises `ServiceError` when another has claimed it."""
        self._claim(self._declared, interface, plugin, "service")

    def declare_point(self, interface: type, *, plugin: str) -> None:
        """Note that `plugin` takes extensions of type `interface`."""
        self._claim(self._points, interface, plugin, "extension point")

    def declare_missing_point(self, interface: type, *, plugin: str) -> None:
        """Note that `plugin` stands in for whoever would take extensions of type `interface`, if nobody here does."""
        self._points.setdefault(interface, plugin)

    def provide(self, interface: type, implementation: object, *, plugin: str) -> None:
        """Put the implementation of a declared service in place."""
        if self._declared.get(interface) != plugin:
            raise ServiceError(
                f"{plugin} provides {_name(interface)} without having declared it: use registry.service()"
            )
        if interface in self._provided:
            raise ServiceError(f"{plugin} provides {_name(interface)} twice")
        self._provided[interface] = implementation

    def owner(self, interface: Interface[T]) -> str | None:
        """The plugin that provides a service, if one does."""
        return self._declared.get(cast("type[T]", interface))

    def check_provided(self, plugin: str) -> None:
        """Raise `ServiceError` when `plugin` has declared a service and not provided it."""
        declared = [interface for interface, owner in self._declared.items() if owner == plugin]
        if missing := [_name(interface) for interface in declared if interface not in self._provided]:
            raise ServiceError(
                f"{plugin} declared {', '.join(missing)} but did not provide it: call services.provide() in init"
            )

    def get(self, interface: Interface[T]) -> T:
        """The implementation of a service. Raises `ServiceError` saying who should have provided it."""
        interface = cast("type[T]", interface)
        if interface in self._provided:
            return cast("T", self._provided[interface])
        if interface in self._declared:
            raise ServiceError(
                f"{self._declared[interface]} declared {_name(interface)} but has not provided it"
            )
        raise ServiceError(self._absent(interface, "provides"))

    def extend(self, interface: type, extension: object, *, plugin: str) -> None:
        """Add an extension to a point, which may be declared later, or never."""
        self._extensions.setdefault(interface, []).append((plugin, extension))

    def extensions(self, interface: Interface[T]) -> tuple[T, ...]:
        """What has been added to a point, in the plugins' order. Raises `ServiceError` for an undeclared one."""
        interface = cast("type[T]", interface)
        if interface not in self._points:
            raise ServiceError(self._absent(interface, "declares the extension point"))
        return tuple(cast("T", extension) for _, extension in self._extensions.get(interface, ()))

    def extensions_by(self, interface: Interface[T], *, plugin: str) -> tuple[T, ...]:
        """What `plugin` has added to a point, be that declared or not."""
        added = self._extensions.get(cast("type[T]", interface), ())
        return tuple(cast("T", extension) for owner, extension in added if owner == plugin)

    def declared_by(self, plugin: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the services and of the extension points that `plugin` has declared."""

        def named(claims: dict[type, str]) -> tuple[str, ...]:
            return tuple(sorted(_name(interface) for interface, owner in claims.items() if owner == plugin))

        return named(self._declared), named(self._points)

    def undeclared_points(self) -> dict[str, tuple[str, ...]]:
        """Points that are extended though nobody declares them: point name to the plugins that extend it."""
        return {
            _name(interface): tuple(plugin for plugin, _ in extensions)
            for interface, extensions in self._extensions.items()
            if interface not in self._points and extensions
        }

    def remove_plugin(self, plugin: str) -> None:
        """Take away everything that `plugin` declared, provided or added."""
        for interface in [one for one, owner in self._declared.items() if owner == plugin]:
            del self._declared[interface]
            self._provided.pop(interface, None)
            self._gone[interface] = plugin
        for interface in [one for one, owner in self._points.items() if owner == plugin]:
            del self._points[interface]
            self._gone[interface] = plugin
        for interface, extensions in self._extensions.items():
            self._extensions[interface] = [one for one in extensions if one[0] != plugin]

    def _absent(self, interface: type, verb: str) -> str:
        if owner := self._gone.get(interface):
            return (
                f"{_name(interface)} went with the plugin {owner}, which was left out; "
                f"a plugin that cannot do without it says so: requires=({owner!r},)"
            )
        return f"no plugin {verb} {_name(interface)}; is the plugin that owns it installed?"

    @staticmethod
    def _claim(claims: dict[type, str], interface: type, plugin: str, kind: str) -> None:
        if (owner := claims.setdefault(interface, plugin)) != plugin:
            raise ServiceError(
                f"{plugin} declares the {kind} {_name(interface)}, which {owner} has declared already"
            )


def _name(interface: type) -> str:
    return f"{interface.__module__}.{interface.__qualname__}"
