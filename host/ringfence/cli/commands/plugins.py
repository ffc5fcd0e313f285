"""`ringfence plugins`: what the running host has loaded."""

from __future__ import annotations

from ringfence.cli import output
from ringfence.cli.client import HostClient
from ringfence.cli.options import AsJson

SHOWN = {
    "requires": "requires",
    "hooks": "hook",
    "subscriptions": "subscription",
    "workerGroups": "worker group",
    "jobs": "job",
    "timetables": "timetable",
    "services": "service",
    "extensionPoints": "extension point",
    "settings": "setting",
    "routes": "route",
    "commands": "command",
}
"""What is shown of a plugin, and how it is called; an older host does not tell all of it."""


def plugins(as_json: AsJson = False) -> None:
    """List the running host's plugins: version, phase, why one was left out, and all that each brings."""
    with HostClient.connect() as host:
        answer = host.request("GET", "/api/host/plugins")
    if as_json:
        output.print_json(answer)
        return
    for plugin in answer["plugins"]:
        output.say(
            f"{output.line(plugin['id'])} {output.line(plugin['version'])}: {output.line(plugin['phase'])}",
            style=output.STRONG,
        )
        if plugin.get("error"):
            output.say(f"  {output.plain(plugin['error'])}", style=output.BAD)
        if plugin.get("commandsError"):
            output.say(
                f"  its module for the command line {output.line(plugin['commandsError'])}", style=output.BAD
            )
        for key, name in SHOWN.items():
            for value in plugin.get(key, ()):
                output.say(f"  {name:<16} {output.line(value)}")
