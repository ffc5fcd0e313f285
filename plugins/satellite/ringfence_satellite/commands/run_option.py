"""`ringfence run --satellite`: a script on a satellite, asked for and followed."""

from __future__ import annotations

from typing import Any

from ringfence.cli import HostClient, Outcome, ScriptToRun, UsageMistake, output

from ringfence_satellite.client import find
from ringfence_satellite.commands import remote_run


def run(script: ScriptToRun) -> Outcome:
    """Run it there, and show what it writes as it comes. Raises `CliError` where it has no result."""
    with HostClient.connect() as host:
        asked = _ask(host, script)
        if script.detach:
            _show_detached(asked, script.as_json)
            return Outcome(None)
        watched = None if script.as_json else remote_run.Output()
        result = remote_run.result_of(remote_run.follow(host, asked, watched))
    return Outcome(result, {} if watched is None else watched.shown)


def _ask(host: HostClient, script: ScriptToRun) -> remote_run.Run:
    given = script.given
    body: dict[str, Any] = {
        "kind": script.kind.value,
        "timeoutMs": script.timeout_ms,
        "deliverWithinSeconds": script.deliver_within,
    }
    more: dict[str, Any] = {
        "script": _text("a script", given.script),
        "name": given.name or None,
        "command": given.command,
        "args": given.args or None,
        "env": dict(given.env) or None,
        "stdin": _text("standard input", given.stdin),
        "context": script.context,
        "needs": script.needs,
        "packages": script.packages,
    }
    # What an older host does not know is named only where it is needed.
    body |= {name: value for name, value in more.items() if value is not None}
    return remote_run.ask(host, find(host, script.place), body)


def _text(what: str, given: bytes | None) -> str | None:
    try:
        return None if given is None else given.decode()
    except UnicodeDecodeError as error:
        raise UsageMistake(f"{what} for a satellite must be UTF-8 text: {error}") from error


def _show_detached(run: remote_run.Run, as_json: bool) -> None:
    if as_json:
        output.print_json(run)
        return
    output.say(output.line(run["id"]))
    output.note(f"To see it: `ringfence runs show {output.line(run['id'])}`.")
