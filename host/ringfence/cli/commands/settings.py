"""`ringfence settings`: what can be set, what is set here, and where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from ringfence.cli import chosen, output
from ringfence.cli.address import named_host, noted_url
from ringfence.cli.options import AsJson
from ringfence.cli.profiles import Profiles
from ringfence.cli.server_extra import needs_server
from ringfence.process import logs, settings_file
from ringfence.process.errors import USAGE, CliError

if TYPE_CHECKING:
    from ringfence.settings import Setting


def settings(as_json: AsJson = False) -> None:
    """List every setting as it is for a host or an agent that is started here: value, source and default.

    The status is 2 if one is wrong. The host that runs may have been started with others.
    """
    from ringfence.settings import unknown
    from ringfence.settings.listing import listed

    logs.configure()  # to load plugins may take long, and be logged: not where the list goes
    found = _found()
    host = _host()
    others = unknown(os.environ, [one.variable for one, _ in found])
    shown = [listed(one, problem=problem) for one, problem in found]
    if as_json:
        source = settings_file.source()
        output.print_json(
            {
                "file": None if source is None else str(source),
                "host": host,
                "settings": shown,
                "unknown": [{"name": one.variable, "nearest": one.nearest} for one in others],
            }
        )
    else:
        _show(shown)
        where = (
            f"{output.line(host['url'])} ({output.line(host['from'])})"
            if host["url"]
            else "no host that is known"
        )
        output.say(f"Commands talk to {where}.")
        for one in others:
            output.note(output.line(one), style=output.WARN)
    if any(problem for _, problem in found):
        raise typer.Exit(USAGE)


def _found() -> list[tuple[Setting, str | None]]:
    """Every setting, and what is wrong with each."""
    from ringfence.settings import EVERYWHERE, HostSettings, of_model

    found: list[tuple[Setting, str | None]] = []
    found += _problems(HostSettings, of_model(HostSettings, "host"))
    found += _problems_everywhere(EVERYWHERE)
    for model, owner in _of_plugins():
        found += _problems(model, of_model(model, owner))
    return found


def documents() -> list[Mapping[str, Any]]:
    """Every setting as this process has it, without secrets."""
    from ringfence.settings.listing import listed

    return [listed(one, problem=problem) for one, problem in _found()]


def _host() -> dict[str, str | None]:
    """Which host commands talk to from here, and what says so."""
    try:
        named = named_host(os.environ, chosen.now(), Profiles.read(), noted_url())
    except CliError as error:
        return {"url": None, "from": str(error), "profile": None}
    profile = None if named.profile is None else named.profile.name
    return {"url": named.url, "from": named.source, "profile": profile}


def _problems(model: Any, own: Sequence[Setting]) -> Iterator[tuple[Setting, str | None]]:
    """The settings of a model, and what is wrong with each."""
    from ringfence.settings import SettingsError, build
    from ringfence.storage.datadir import DataDirError

    wrong: Mapping[str, str] = {}
    try:
        build(model)
    except SettingsError as error:
        wrong = error.problems
    except DataDirError as error:  # a user without a home
        wrong = {"RINGFENCE_DATA_DIR": str(error)}
    return ((one, wrong.get(one.variable)) for one in own)


def _problems_everywhere(own: Sequence[Setting]) -> Iterator[tuple[Setting, str | None]]:
    """The settings that no model reads, and what the runner finds wrong with the first that is."""
    from ringfence.scripts import RunnerSettings, RunnerSettingsError

    problem = ""
    try:
        RunnerSettings.from_environment()
    except RunnerSettingsError as error:
        problem = str(error)
    return ((one, problem if problem.startswith(one.variable) else None) for one in own)


def _of_plugins() -> Iterator[tuple[Any, str]]:
    """The models of the installed plugins; none without the server extra, which they need."""
    try:
        with needs_server("ringfence settings"):
            from ringfence.plugins.discovery import discover
            from ringfence.plugins.registry import PluginError
            from ringfence.plugins.without_a_host import models_of
    except CliError:
        output.note("The server extra is not installed: the settings of plugins are left out.")
        return
    try:
        yield from models_of(discover())
    except PluginError as error:
        raise CliError(str(error)) from error


def _show(documents: Sequence[Mapping[str, Any]]) -> None:
    from rich.text import Text

    if (source := settings_file.source()) is not None:
        output.say(f"The settings file is {output.line(source)}.")
    output.show_table(
        ("setting", "value", "from", "default", "what"),
        (
            (
                one["name"],
                output.line("–" if one["value"] is None else one["value"])
                if one["problem"] is None
                else Text(output.line(f"invalid: {one['problem']}"), style=output.BAD),
                one["source"],
                "–" if one["default"] is None else output.line(one["default"]),
                output.line(one["description"]),
            )
            for one in documents
        ),
        spare=("default", "what"),
    )
