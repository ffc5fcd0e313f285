"""Ringfence: the plugin host, and the names that a plugin's author needs.

The names are resolved on first use, so that the satellite agent and the command line, which need neither
pluggy nor a database, do not pay for them.
"""

from __future__ import annotations

TYPE_CHECKING = (
    False  # what `typing` has it for; importing that takes longer than all else that a command begins with
)
if TYPE_CHECKING:
    from ringfence.access import AccessRule, TokenHolder
    from ringfence.fleet.leadership import Leadership
    from ringfence.hooks import AnyEvent, DeclaredHook, Event, Hook, HookDirectory, Mode
    from ringfence.hookspecs import hookimpl
    from ringfence.jobs.job import Backoff, Job, JobError, JobFailed, Nothing, RunningJob
    from ringfence.plugins.context import PluginContext
    from ringfence.plugins.registry import PluginInfo, Registry
    from ringfence.sandbox.wire import WireModel
    from ringfence.storage.configs import ConfigError, ConfigSchema
    from ringfence.storage.set_aside import Culprit

__all__ = [
    "AccessRule",
    "AnyEvent",
    "Backoff",
    "ConfigError",
    "ConfigSchema",
    "Culprit",
    "DeclaredHook",
    "Event",
    "Hook",
    "HookDirectory",
    "Job",
    "JobError",
    "JobFailed",
    "Leadership",
    "Mode",
    "Nothing",
    "PluginContext",
    "PluginInfo",
    "Registry",
    "RunningJob",
    "TokenHolder",
    "WireModel",
    "hookimpl",
]

_HOME = {
    "AccessRule": "ringfence.access",
    "AnyEvent": "ringfence.hooks",
    "Backoff": "ringfence.jobs.job",
    "ConfigError": "ringfence.storage.configs",
    "ConfigSchema": "ringfence.storage.configs",
    "Culprit": "ringfence.storage.set_aside",
    "DeclaredHook": "ringfence.hooks",
    "Event": "ringfence.hooks",
    "Hook": "ringfence.hooks",
    "HookDirectory": "ringfence.hooks",
    "Job": "ringfence.jobs.job",
    "JobError": "ringfence.jobs.job",
    "JobFailed": "ringfence.jobs.job",
    "Leadership": "ringfence.fleet.leadership",
    "Mode": "ringfence.hooks",
    "Nothing": "ringfence.jobs.job",
    "PluginContext": "ringfence.plugins.context",
    "PluginInfo": "ringfence.plugins.registry",
    "Registry": "ringfence.plugins.registry",
    "RunningJob": "ringfence.jobs.job",
    "TokenHolder": "ringfence.access",
    "WireModel": "ringfence.sandbox.wire",
    "hookimpl": "ringfence.hookspecs",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'ringfence' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
