"""What an operator can set: in the environment as `RINGFENCE_…`, or in a settings file."""

from ringfence.process.variables import EVERYWHERE, Setting, Unknown, unknown
from ringfence.settings.catalog import SettingsError, build, of_model
from ringfence.settings.host import DEFAULT_PORT, MOST_SOCKET_BYTES, START_SECONDS, HostSettings

__all__ = [
    "DEFAULT_PORT",
    "EVERYWHERE",
    "MOST_SOCKET_BYTES",
    "START_SECONDS",
    "HostSettings",
    "Setting",
    "SettingsError",
    "Unknown",
    "build",
    "of_model",
    "unknown",
]
