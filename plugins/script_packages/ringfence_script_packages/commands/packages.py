"""`ringfence packages`: what scripts may import."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from ringfence.cli import (
    FAILURE,
    ApiError,
    AsJson,
    CliError,
    HostClient,
    UsageMistake,
    Yes,
    confirm,
    lists,
    name_of,
    names_from,
    output,
    read_script,
)

from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.commands.carrying import InSet, audit, export_, gc, import_
from ringfence_script_packages.commands.held import is_lacking, show_held, watch_held
from ringfence_script_packages.commands.installing import SET_NAMES, SETS, set_path, size, watched

ENTRIES = f"{PACKAGES}/entries"
ENTRY_NAMES = names_from(ENTRIES, "entries")
SCRIPTS = f"{PACKAGES}/scripts"

app = typer.Typer(
    help="Decide what scripts may import, and install it on a running host.", no_args_is_help=True
)


class Ecosystem(enum.StrEnum):
    """Where a package comes from."""

    PYPI = "pypi"
    NPM = "npm"


Names = Annotated[
    list[str],
    typer.Argument(
        metavar="PACKAGE...",
        help="Name of a package, and a range of versions if any will not do: requests, 'requests>=2', "
        "'psycopg[binary]', 'zod@^3'.",
    ),
]
Of = Annotated[
    Ecosystem,
    typer.Option("--ecosystem", help="Where the packages come from: Python's or Node.js's registry."),
]
app.command()(audit)
app.command()(gc)
app.command("export")(export_)
app.command("import")(import_)

Reason = Annotated[str | None, typer.Option(help="Reason for the change; the event log keeps it.")]


@app.command()
def allow(
    packages: Names,
    ecosystem: Of = Ecosystem.PYPI,
    in_set: InSet = "default",
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Allow packages in a set. They can be imported once the set is installed."""
    body = {"packages": packages, "ecosystem": ecosystem, "set": in_set, "reason": reason}
    with HostClient.connect() as host:
        answer = host.request("POST", ENTRIES, body=body)
    if as_json:
        output.print_json(answer)
        return
    named = ", ".join(output.line(entry["requirement"]) for entry in answer["entries"])
    output.say(f"Allowed in the set {output.line(in_set)}: {named}.")
    output.note(f"To install: {_install(in_set)}")


@app.command("list")
def list_(
    in_set: Annotated[
        str | None, typer.Option("--set", help="Only what is allowed in this set.", autocompletion=SET_NAMES)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what is allowed in which set, by whom and why."""
    params = {} if in_set is None else {"set": in_set}
    with HostClient.connect() as host:
        entries = list(lists.every(host, ENTRIES, "entries", params))
    if as_json:
        output.print_json({"entries": entries})
        return
    if not entries:
        output.say("No package is allowed yet: allow one with `ringfence packages allow NAME`.")
        return
    output.show_table(
        ("set", "package", "from", "allowed", "by", "why"),
        (
            (
                output.line(entry["set"]),
                output.line(entry["requirement"]),
                output.line(entry["ecosystem"]),
                output.ago(entry["allowedAt"]),
                output.line(entry["allowedBy"]),
                output.line(entry["reason"] or ""),
            )
            for entry in entries
        ),
        spare=("from", "by"),
    )


@app.command()
def remove(
    packages: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of packages.", autocompletion=ENTRY_NAMES)
    ],
    ecosystem: Of = Ecosystem.PYPI,
    in_set: InSet = "default",
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Allow packages in a set no more. They can be imported until the set is installed again."""
    params = {"ecosystem": ecosystem.value, "set": in_set} | ({} if reason is None else {"reason": reason})
    removed = []
    with HostClient.connect() as host:
        for name in packages:
            removed.append(host.request("DELETE", ENTRIES, params={**params, "name": name}))
    if as_json:
        output.print_json({"removed": removed})
        return
    named = ", ".join(output.line(entry["name"]) for entry in removed)
    output.say(f"No longer allowed in the set {output.line(in_set)}: {named}.")
    output.note(f"To take it away from scripts: {_install(in_set)}")


@app.command()
def install(
    in_set: InSet = "default",
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="Look for newer versions, too; without it, a lock stays as it is."),
    ] = False,
    script: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Install what that script says in its own text (PEP 723), in place of a set."
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Install what is allowed in a set, and wait for it. What scripts had before, they have until it is complete."""
    with HostClient.connect() as host:
        if script is not None:
            in_set = _set_of(host, script)
        try:
            state = host.request(
                "POST", f"{set_path(in_set)}/install", body={"upgrade": upgrade, "reason": reason}
            )
        except ApiError as error:
            if error.status == 404:
                raise CliError(
                    str(error), hint="Allow a package in it first: `ringfence packages allow NAME --set SET`."
                ) from error
            raise
        if not detach:
            state = watched(host, set_path(in_set), quiet=as_json)
    if state["state"] == "failed":
        raise _failed(in_set, state["error"])
    if as_json:
        output.print_json(state)
        return
    if detach:
        output.say(f"The set {output.line(in_set)} is being installed: see `ringfence packages status`.")
        return
    count = len(state["packages"])
    output.say(
        f"The set {output.line(in_set)} is installed: {count} {'package' if count == 1 else 'packages'}, "
        f"{size(state['bytes'])}, lock {state['lockHash'][:12]}.",
        style=output.GOOD,
    )
    _note_what_is_wrong(state)


@app.command()
def status(
    in_set: InSet = "default",
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait until all satellites have it that are to have it.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="With --watch: give up after so many seconds.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a set: its state, its packages with their versions, and which platforms and satellites have them.

    With --watch, exits with 1 if some satellites do not have it in the end.
    """
    if timeout is not None and not watch:
        raise UsageMistake("--timeout sets how long to watch: use it with --watch")
    with HostClient.connect() as host:
        path = set_path(in_set)
        state = watch_held(host, path, timeout, quiet=as_json) if watch else host.request("GET", path)
    if as_json:
        output.print_json(state)
    else:
        _show(state)
    if watch and is_lacking(state):
        raise typer.Exit(FAILURE)


def _show(state: Mapping[str, Any]) -> None:
    output.say(f"{output.line(state['name'])}: {_state(state)}", style=output.STRONG)
    if state["error"]:
        output.say(output.line(_error(state["error"])), style=output.BAD)
    if state["lockHash"] is None:
        return
    output.show_facts(
        [
            ("lock", state["lockHash"]),
            ("locked", output.when(state["lockedAt"])),
            ("size", f"{size(state['bytes'])} of {size(state['limitBytes'])}"),
        ]
    )
    output.show_table(
        ("package", "version", "from"),
        (
            (output.line(one["name"]), output.line(one["version"]), output.line(one["ecosystem"]))
            for one in state["packages"]
        ),
    )
    output.show_table(
        ("platform", "stored"),
        ((output.line(_platform(one)), _stored(one)) for one in state["platforms"]),
    )
    show_held(state)
    _note_what_is_wrong(state)


@app.command()
def sets(as_json: AsJson = False) -> None:
    """List the sets, and how each is."""
    with HostClient.connect() as host:
        found = list(lists.every(host, SETS, "sets"))
    if as_json:
        output.print_json({"sets": found})
        return
    if not found:
        output.say("No sets yet: allow a package with `ringfence packages allow NAME`.")
        return
    output.show_table(
        ("set", "state", "lock", "locked"),
        (
            (
                output.line(one["name"]),
                _state(one),
                (one["lockHash"] or "–")[:12],
                output.ago(one["lockedAt"]),
            )
            for one in found
        ),
    )


@app.command()
def delete(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of the set.", autocompletion=SET_NAMES)],
    reason: Reason = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete a set, with all that is allowed in it. Runs that name it are refused from then on."""
    params = {} if reason is None else {"reason": reason}
    with HostClient.connect() as host:
        confirm(f"Delete the set {name}?", yes=yes)
        answer = host.request("DELETE", set_path(name), params=params)
    if as_json:
        output.print_json(answer)
    else:
        output.say(f"The set {output.line(name)} is deleted.")


def _set_of(host: HostClient, file: str) -> str:
    """The set that a script asks for in its own text, which is made if there is none."""
    body = {"script": (read_script(file, None) or b"").decode(errors="replace"), "name": name_of(file)}
    return str(host.request("POST", f"{SCRIPTS}/install", body=body)["name"])


def _install(name: str) -> str:
    return "ringfence packages install" + ("" if name == "default" else f" --set {output.line(name)}")


def _failed(name: str, error: Mapping[str, Any]) -> CliError:
    package = f"{error['package']}: " if error["package"] else ""
    message = f"the set {name} is not installed: {package}{error['message']}"
    return CliError(message, hint=error["hint"], problem=error)


def _state(state: Mapping[str, Any]) -> str:
    if state["state"] == "installing" and state["progress"]:
        progress = state["progress"]
        if progress["phase"] == "fetching":
            return f"installing, {size(progress['bytesDone'])} of {size(progress['bytes'])}"
        return "installing, resolving"
    return str(state["state"])


def _error(error: Mapping[str, Any]) -> str:
    package = f"{error['package']}: " if error.get("package") else ""
    hint = f" {error['hint']}" if error.get("hint") else ""
    return f"The last installation failed: {package}{error['message']}.{hint}"


def _platform(one: Mapping[str, Any]) -> str:
    parts: Iterable[str] = (
        f"{label} {part['version']} ({part['machine']}, {part['libc']})"
        for label, part in (("Python", one.get("python")), ("Node.js", one.get("node")))
        if part
    )
    return ", ".join(parts) or "no interpreter"


def _stored(one: Mapping[str, Any]) -> str:
    if one["problem"]:
        return output.line(f"cannot have it: {one['problem']}")
    if one["storedBytes"] == one["bytes"]:
        return f"all of {size(one['bytes'])}"
    return f"{size(one['storedBytes'])} of {size(one['bytes'])}"


def _note_what_is_wrong(state: Mapping[str, Any]) -> None:
    for one in state["platforms"]:
        if one["problem"]:
            output.note(f"{output.line(_platform(one))} cannot have it: {output.line(one['problem'])}")
    if state["isLarge"]:
        output.note(
            f"The set is large: {size(state['bytes'])} of the {size(state['limitBytes'])} that a set may have.",
            style=output.WARN,
        )
