"""What a plugin is handed when it is up: the `PluginContext`, in parts."""

from ringfence.plugins.context.context import PluginContext

__all__ = ["PluginContext"]
