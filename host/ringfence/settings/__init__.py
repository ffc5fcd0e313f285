"""What an operator can set: in the environment as `RINGFENCE_…`, or in a settings file."""

from ringfence.settings.catalog import Setting, SettingsError, Unknown, build, of_model, unknown
from ringfence.settings.everywhere import EVERYWHERE
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
