"""The services of an instance as one plugin sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from ringfence.plugins.registry import PluginError, Registry
from ringfence.plugins.services import PartialFake, missing_methods

if TYPE_CHECKING:
    from ringfence.plugins.runtime import Runtime
    from ringfence.plugins.services import Interface

T = TypeVar("T")


class PluginServices:
    """The services as one plugin sees them.

    It offers its own in `init`, and calls others once all are ready.
    """

    def __init__(self, registry: Registry, runtime: Runtime) -> None:
        self._plugin = registry.plugin
        self._registry = registry
        self._runtime = runtime

    def provide(self, interface: type, implementation: object) -> None:
        """Put the implementation of a service in place that `register` declared."""
        whole = self._whole("provides", interface, implementation)
        self._runtime.services.provide(interface, whole, plugin=self._plugin)

    def extend(self, interface: type, extension: object) -> None:
        """Add an implementation to another plugin's extension point.

        Only in `init`: later, the point may have been read.
        """
        if self._runtime.ready:
            raise PluginError(f"{self._plugin} extends {interface.__name__} too late: do it in init")
        whole = self._whole("extends", interface, extension)
        self._runtime.services.extend(interface, whole, plugin=self._plugin)

    def get(self, interface: Interface[T]) -> T:
        """The service that implements `interface`.

        Raises `ServiceError`, and `PluginError` when called too early, or for the service of a plugin that this one
        does not require: whether that is there would be luck.
        """
        self._runtime.check_ready(self._plugin, f"services.get({_name(interface)})")
        owner = self._runtime.services.owner(interface)
        if owner is not None and owner != self._plugin and owner not in self._registry.requires:
            raise PluginError(
                f"{self._plugin} used services.get({_name(interface)}) of {owner}, which it does not require: say "
                f"requires=({owner!r},), or use services.find({_name(interface)}), whose answer may be None"
            )
        return self._runtime.services.get(interface)

    def find(self, interface: Interface[T]) -> T | None:
        """The service that implements `interface`, or None: for a plugin that can do without it."""
        self._runtime.check_ready(self._plugin, f"services.find({_name(interface)})")
        if self._runtime.services.owner(interface) is None:
            return None
        return self._runtime.services.get(interface)

    def extensions(self, interface: Interface[T]) -> tuple[T, ...]:
        """Everything that plugins have added to the extension point `interface`."""
        self._runtime.check_ready(self._plugin, f"services.extensions({_name(interface)})")
        return self._runtime.services.extensions(interface)

    def _whole(self, verb: str, interface: type, implementation: object) -> object:
        if isinstance(implementation, PartialFake):
            return implementation.fake
        if missing := missing_methods(interface, implementation):
            raise PluginError(
                f"{self._plugin} {verb} {interface.__name__} with {type(implementation).__name__}, which has no method "
                f"{', '.join(missing)}"
            )
        return implementation


def _name(interface: Interface[T]) -> str:
    return cast("type[T]", interface).__name__
