"""`ringfence plugins`: what the running host has loaded."""

from __future__ import annotations

from ringfence.cli import output
from ringfence.cli.client import HostClient
from ringfence.cli.options import AsJson


def plugins(as_json: AsJson = False) -> None:
    """List the running host's plugins: version, phase reached, hooks and routes."""
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
        for name in ("requires", "hooks", "routes"):
            for value in plugin.get(name, ()):
                output.say(f"  {name:<9} {output.line(value)}")
