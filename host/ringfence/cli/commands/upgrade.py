"""`ringfence upgrade --check`: what would change if this release ran on the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli import output
from ringfence.cli.commands import on_database
from ringfence.cli.commands.on_database import DataDirOption
from ringfence.cli.options import AsJson, asks_no_host
from ringfence.cli.sized import size_of
from ringfence.process import logs
from ringfence.process.errors import UsageMistake

if TYPE_CHECKING:
    from ringfence.upgrade import Branch, Upgrade

SOMETHING_TO_DO = 1


@asks_no_host
def upgrade(
    check: Annotated[bool, typer.Option("--check", help="Look at the database, and change nothing.")] = False,
    data_dir: DataDirOption = None,
    as_json: AsJson = False,
) -> None:
    """Say what would change if this release ran on the database: it only reads.

    The exit status is 0 if there is nothing to do, and 1 if there is something to do or to mend.
    """
    del data_dir
    if not check:
        raise UsageMistake(
            "a database is upgraded by the first host of a release that starts on it",
            hint="To see before what that changes: ringfence upgrade --check",
        )
    logs.configure(default="warning")
    with on_database.told():
        from ringfence.backup import place
        from ringfence.plugins.without_a_host import branches_of
        from ringfence.upgrade import look

        settings = on_database.settings()
        branches = branches_of(on_database.plugins())
        with place.to_read(settings) as database:
            found = look(database, branches)
    if as_json:
        output.print_json({**found.model_dump(mode="json", by_alias=True), "toDo": found.to_do})
    else:
        output.say(
            f"This is Ringfence {found.release}; the database is of PostgreSQL {found.server // 10_000}."
        )
        for text in lines_of(found):
            output.say(output.line(text), style=output.WARN)
        if not found.to_do:
            output.say("There is nothing to do.", style=output.GOOD)
    if found.to_do:
        raise typer.Exit(SOMETHING_TO_DO)


def lines_of(found: Upgrade) -> Iterator[str]:
    """What there is to do or to mend, a line each. Pure."""
    for branch in found.branches:
        if branch.unknown:
            yield (
                f"{branch.plugin}: the database is at {', '.join(branch.unknown)}, which this release does not know: "
                "run the release that made it, or a newer one"
            )
        for one in branch.pending:
            yield f"{branch.plugin}: {one.revision} is to be run: {one.what}"
        if branch.pending:
            yield from _weight(branch)
    for plugin in found.missing_plugins:
        yield f"{plugin}: the plugin is not installed, but its tables are there"
    for running in found.instances:
        if running.release != found.release:
            yield f"instances of Ringfence {running.release} run on the database: {running.count}"
    for extension in found.extensions:
        yield (
            f"the extension {extension.name} is at {extension.installed}, and the server has {extension.available}: "
            f"ALTER EXTENSION {extension.name} UPDATE"
        )


def _weight(branch: Branch) -> Iterator[str]:
    if branch.tables is None:
        yield f"{branch.plugin}: how much they change is not known"
    for table in branch.tables or ():
        yield f"{branch.plugin}: they may change {table.name}: about {table.rows} rows, {size_of(table.bytes)}"
