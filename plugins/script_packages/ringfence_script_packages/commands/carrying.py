"""What else is done with packages: audits, the deletion of what nobody wants, and archives for other hosts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from ringfence.cli import FAILURE, AsJson, CliError, HostClient, output

from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.commands.installing import SET_NAMES, set_path, size

AUDIT = f"{PACKAGES}/audit"
GC = f"{PACKAGES}/gc"
IMPORT = f"{PACKAGES}/import"
AUDIT_SECONDS = 600.0
PIECE = 1024 * 1024

InSet = Annotated[str, typer.Option("--set", help="The set that it is about.", autocompletion=SET_NAMES)]


def audit(
    now: Annotated[
        bool, typer.Option("--now", help="Look now; by default, show what the last audit found.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is known to be wrong with the versions that are installed. Exits with 1 if there is something."""
    with HostClient.connect() as host:
        answer = host.request("POST" if now else "GET", AUDIT, timeout=AUDIT_SECONDS)
    found = [{**one, "set": each["set"]} for each in answer["sets"] for one in each["findings"]]
    if as_json:
        output.print_json(answer)
    else:
        _show_audit(answer["sets"], found)
    if found:
        raise typer.Exit(FAILURE)


def gc(as_json: AsJson = False) -> None:
    """Delete files and locks that nothing has wanted for a while. It is done once a day by itself, too."""
    with HostClient.connect() as host:
        gone = host.request("POST", GC, timeout=AUDIT_SECONDS)
    if as_json:
        output.print_json(gone)
        return
    output.say(
        f"Deleted: {gone['files']} files ({size(gone['bytes'])}), {gone['locks']} locks, {gone['sets']} sets "
        "that scripts no longer ask for."
    )


def export_(
    file: Annotated[Path, typer.Argument(help="The archive to write.")],
    in_set: InSet = "default",
    as_json: AsJson = False,
) -> None:
    """Write a set into a file, with all that it consists of, for a host without internet."""
    part = file.with_name(f"{file.name}.part")
    try:
        with HostClient.connect() as host, part.open("wb") as into:
            count = host.download(f"{set_path(in_set)}/archive", into)
        part.replace(file)
    except OSError as error:
        raise CliError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    if as_json:
        output.print_json({"file": str(file), "set": in_set, "bytes": count})
    else:
        output.say(f"{output.line(file)} has the set {output.line(in_set)}: {size(count)}.")


def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `ringfence packages export` has written.")],
    in_set: Annotated[
        str | None,
        typer.Option(
            "--set", help="The set that it becomes; by default the one that it was.", autocompletion=SET_NAMES
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take a set in from such a file. It replaces what the set has, once all of it is stored."""
    try:
        with file.open("rb") as stream, HostClient.connect() as host:
            params = {} if in_set is None else {"set": in_set}
            with _sent(stream, quiet=as_json) as pieces:
                answer = host.upload(IMPORT, pieces, params=params)
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}") from error
    if as_json:
        output.print_json(answer)
    else:
        output.say(
            f"The set {output.line(answer['set'])} is installed: {answer['files']} files, "
            f"lock {answer['lockHash'][:12]}.",
            style=output.GOOD,
        )


@contextmanager
def _sent(stream: BinaryIO, *, quiet: bool) -> Iterator[Iterator[bytes]]:
    """The pieces of a file, and on standard error how much of it the host has taken in."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, console=output.console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("importing", total=os.fstat(stream.fileno()).st_size)

        def pieces() -> Iterator[bytes]:
            while piece := stream.read(PIECE):
                yield piece
                bar.advance(task, len(piece))

        yield pieces()


def _show_audit(sets: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> None:
    for one in sets:
        when = output.ago(one["auditedAt"]) if one["isOfThisLock"] else "not yet"
        output.say(f"{output.line(one['set'])}: audited {when}", style=output.STRONG)
        for problem in one["problems"]:
            output.say(f"Not all could be asked: {output.line(problem)}.", style=output.WARN)
    if not found:
        output.say("Nothing is known to be wrong.")
        return
    output.show_table(
        ("set", "package", "version", "advisory", "fixed in", "what"),
        (
            (
                output.line(one["set"]),
                output.line(one["package"]),
                output.line(one["version"]),
                output.line(one["advisory"]),
                output.line(", ".join(one["fixedIn"]) or "–"),
                output.line(one["summary"]),
            )
            for one in found
        ),
        spare=("set",),
    )
