"""The whole contract between Ringfence and a plugin: what it is asked, and when.

A plugin implements any of these with `@hookimpl`. Everything else that a plugin can do, it does with what it is handed
here: in a host through the `Registry` and the `PluginContext`, in a command through `ringfence.cli`.
"""

# A specification has no body, whatever it says that its answers are.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from pydantic_settings import BaseSettings

    from ringfence.backup import KeysOutside
    from ringfence.cli.client import HostClient
    from ringfence.cli.extension_points import Line, Outcome, PackagesToRun, ScriptToRun, Serving
    from ringfence.metrics import Metric
    from ringfence.pages import Pages
    from ringfence.plugins.context import PluginContext
    from ringfence.plugins.registry import Registry
    from ringfence.sandbox import PolicySnapshot
    from ringfence.scripts import ScriptRequest
    from ringfence.settings import HostSettings

PROJECT = "ringfence"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# In a host. These are asked of the plugin: the class that the entry-point group `ringfence.plugins` names. ------------


@hookspec
def settings() -> type[BaseSettings]:
    """Name the model of the plugin's settings, which the host builds before anything else: see `own_settings`.

    Its `env_prefix` is `RINGFENCE_` and the id of the plugin: by that, commands that load no plugin leave its variables
    alone. A setting that is wrong keeps the plugin from starting, and is named.
    """


@hookspec
def keys(settings: HostSettings) -> KeysOutside:
    """Name the keys that the plugin's rows cannot be read without, if they are not in the database.

    It is asked by `ringfence backup` and `ringfence restore`, where no host runs and nothing else is asked.
    """


@hookspec
def register(registry: Registry) -> None:
    """Declare what the plugin has: services, access rules, hooks, routes, migrations. No I/O."""


@hookspec
def pages() -> Pages:
    """Name the pages that the plugin adds for people, panels on others' pages, and what their forms do.

    It is asked when the plugin is ready. No I/O.
    """


@hookspec
async def metrics() -> Sequence[Metric]:
    """Tell the plugin's metrics: it is asked at each scrape of `/metrics`, once it is ready, and has a second.

    Their names begin with `ringfence_`, and labels have few values: see `ringfence.metrics`. What is counted is counted
    in the process; no large table is read for it.
    """


@hookspec
async def init(context: PluginContext) -> None:
    """Build the plugin's services; the database is migrated, and what it requires has been initialised."""


@hookspec
async def after_plugins_ready(context: PluginContext) -> None:
    """Subscribe, emit and call others: every plugin is initialised now, and not before."""


@hookspec
async def drain(context: PluginContext) -> None:
    """Take nothing new, and bring to an end what is under way: the instance is about to stop. It may stop without."""


@hookspec
async def shutdown(context: PluginContext) -> None:
    """Let go of everything that the plugin holds; runs in reverse order, with a deadline."""


# In a command line. These are asked of the module that the entry-point group `ringfence.commands` names. Every command
# line loads it, with the server or without: it imports nothing but `hookimpl`, and the rest where it is used. ---------


@hookspec
def commands() -> Mapping[str, str]:
    """Name the commands that the plugin adds to `ringfence`: the words to type, and where the command is.

    `{"diary": "policy_diary.commands:app"}`: a typer application, or a function for a single command. It is imported
    when it is run, or when help is shown.
    """


@hookspec(firstresult=True)
def policy_for_run(host: HostClient) -> PolicySnapshot | None:
    """The policy of the host that runs, for a script that `ringfence run` runs on this machine."""


@hookspec(firstresult=True)
def packages_for_run(host: HostClient, request: ScriptRequest) -> PackagesToRun | None:
    """The packages of a script that a command runs on this machine, made ready here; None if it asks for none."""


@hookspec(firstresult=True)
def run_elsewhere(script: ScriptToRun) -> Outcome | None:
    """Run a script in the place that `ringfence run --satellite` names, and wait for it unless it is detached."""


@hookspec
def beside_up(instance: Serving) -> AbstractAsyncContextManager[Sequence[Line]]:
    """What `ringfence up` runs beside the instance for as long as it serves; yields what is said about it."""


OF_A_COMMAND_LINE = frozenset(
    {"commands", "policy_for_run", "packages_for_run", "run_elsewhere", "beside_up"}
)
"""Which of them are asked in a command line."""
