"""`ringfence backup` and `ringfence restore`: the database, and what must go along with it."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.cli import output
from ringfence.cli.commands import on_database
from ringfence.cli.commands.on_database import DataDirOption
from ringfence.cli.confirming import Yes, confirm
from ringfence.cli.options import AsJson, asks_no_host
from ringfence.cli.sized import Progress, size_of
from ringfence.process import logs
from ringfence.process.errors import CliError, UsageMistake
from ringfence.process.signals import as_interrupts

if TYPE_CHECKING:
    from ringfence.backup.keys import KeysOutside
    from ringfence.backup.manifest import Contents, Manifest, NeededKey
    from ringfence.backup.restoring import Keys
    from ringfence.plugins.discovery import Plugin
    from ringfence.settings import HostSettings

_SUFFIX = ".ringfence-backup"
_MOST_NAMES = 5


@asks_no_host
def backup(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|DIR",
            help="The file to write, or a directory, in which it is named after the time.",
            path_type=str,  # a Path forgets that a name ends in a slash
        ),
    ],
    include_keys: Annotated[
        bool,
        typer.Option(
            "--include-keys",
            help="Put the keys of secrets into the file: whoever has it can read them all then.",
        ),
    ] = False,
    pg_dump: Annotated[
        Path | None, typer.Option(metavar="PROGRAM", help="The pg_dump to use.", show_default="one that fits")
    ] = None,
    data_dir: DataDirOption = None,
    as_json: AsJson = False,
) -> None:
    """Write the database into a file, as it is at one moment. Hosts go on meanwhile.

    It says which keys are needed to read its secrets, and holds none of them unless --include-keys is given.
    """
    del data_dir
    logs.configure(default="warning")
    with on_database.told(), as_interrupts():
        from ringfence.backup import place, taking

        settings, plugins = on_database.settings(), on_database.plugins()
        path = _named(file)
        progress = Progress(f"Writing {path.name}")
        with place.to_read(settings) as database:
            try:
                manifest = taking.take(
                    database,
                    path,
                    _keys(plugins, settings),
                    include_keys=include_keys,
                    pg_dump=pg_dump,
                    progress=progress,
                )
            finally:
                progress.end()
    size = path.stat().st_size
    if as_json:
        output.print_json(
            {"file": str(path), "bytes": size, "manifest": manifest.model_dump(mode="json", by_alias=True)}
        )
        return
    output.say(output.line(f"{path}: {size_of(size)}, of Ringfence {manifest.ringfence}"), style=output.GOOD)
    _show_contents(manifest.contents)
    for key in manifest.keys:
        output.say(
            f"{_named_key(key)} "
            + (
                "is in the file: guard it as the key."
                if key.included
                else "is not in the file: keep it elsewhere."
            )
        )


@asks_no_host
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `ringfence backup` has written.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in place of what is in the database, which is lost.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Look at the file and the database, and restore nothing.")
    ] = False,
    pg_restore: Annotated[
        Path | None,
        typer.Option(metavar="PROGRAM", help="The pg_restore to use.", show_default="one that fits"),
    ] = None,
    yes: Yes = False,
    data_dir: DataDirOption = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup into a database: all of it, or nothing. No host may run on it meanwhile.

    The database must be empty, unless --replace is given. A backup of an older release is migrated.
    """
    del data_dir
    logs.configure(default="warning")
    with on_database.told(), as_interrupts():
        from ringfence.backup import archive, place, restoring

        settings, plugins = on_database.settings(), on_database.plugins()
        outside = _keys(plugins, settings)
        with _opened(file) as opened:
            progress = Progress(f"Checking {file.name}", file.stat().st_size)
            try:
                found = archive.opened(opened, file, progress)
            finally:
                progress.end()
            branches = _branches(plugins)
            not_installed = restoring.check_schema(found, branches)
            keys = restoring.keys_of(found, outside)
            if not as_json:
                # Before the database is looked at: that the file is whole is told also where hosts run on that.
                _show_backup(found.manifest)
            if check and not place.is_there(settings):
                _warn(found.manifest, None, keys, not_installed)
                _print(as_json, found.manifest, None, keys, not_installed, unreadable=None)
                return
            with (place.to_read if check else place.to_write)(settings) as database:
                with database.connected() as connection:
                    there = restoring.look(connection)
                    server = connection.info.server_version // 10_000
                program = restoring.program_for(found, server, pg_restore)
                _warn(found.manifest, there, keys, not_installed)
                if there is not None and not (replace or check):
                    raise CliError(
                        f"the database at {database.shown} is not empty: {_told_of(there)}",
                        hint="Restore into an empty database, or add --replace to lose what is in this one.",
                    )
                if check:
                    _print(as_json, found.manifest, there, keys, not_installed, unreadable=None)
                    return
                if there is not None:
                    confirm(f"This is lost: {_told_of(there)}. Replace it?", yes=yes)
                for plugin, texts in keys.to_add.items():
                    output.note(f"The keys of {plugin} are now in {outside[plugin].add(texts)}.")
                progress = Progress(f"Restoring {file.name}", found.dump_bytes)
                try:
                    restoring.restore(database, found, program, replace=there is not None, progress=progress)
                finally:
                    progress.end()
                _migrate(database.url, branches)
                unreadable = restoring.unreadable(database, outside)
    _print(as_json, found.manifest, there, keys, not_installed, unreadable=unreadable)


def _keys(plugins: Sequence[Plugin], settings: HostSettings) -> Mapping[str, KeysOutside]:
    from ringfence.plugins.without_a_host import keys_of

    return keys_of(plugins, settings)


def _branches(plugins: Sequence[Plugin]) -> list[Any]:
    from ringfence.plugins.without_a_host import branches_of

    return branches_of(plugins)


def _migrate(url: str, branches: list[Any]) -> None:
    import asyncio

    from ringfence.storage.migrating import migrate

    asyncio.run(migrate(url, branches))


def _named(given: str) -> Path:
    """The file to write. Raises `CliError`."""
    file = Path(given)
    if not file.is_dir():
        if given.endswith("/"):
            raise CliError(f"there is no directory {given}", hint=f"Make it first: mkdir -m 700 {given}")
        if not file.parent.is_dir():
            raise CliError(f"there is no directory {file.parent}")
        return file
    return file / f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}{_SUFFIX}"


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    if file.is_dir():
        there = sorted(file.glob(f"*{_SUFFIX}"))
        raise UsageMistake(
            f"{file} is a directory: name one of the backups in it",
            hint=f"The newest is {there[-1]}." if there else None,
        )
    with open(file, "rb") as opened:
        yield opened


def _told_of(contents: Contents) -> str:
    """What is in a database, in a few words: the largest tables, and the newest event."""
    largest = sorted(
        (
            (rows, name.partition(".")[2])
            for name, rows in contents.rows.items()
            if rows and "alembic" not in name
        ),
        reverse=True,
    )
    tables = ", ".join(f"{name} {rows}" for rows, name in largest[:_MOST_NAMES]) or "tables without a row"
    more = f" and {len(largest) - _MOST_NAMES} tables more" if len(largest) > _MOST_NAMES else ""
    log = contents.event_log
    newest = (
        ""
        if log is None
        else f"; its newest event is {log.position}, of {output.when(log.occurred_at.isoformat())}"
    )
    return f"rows of {tables}{more}{newest}"


def _show_backup(manifest: Manifest) -> None:
    output.say(
        f"A backup of Ringfence {output.line(manifest.ringfence)}, made {output.when(manifest.made_at.isoformat())}"
    )
    _show_contents(manifest.contents)


def _show_contents(contents: Contents) -> None:
    log = contents.event_log
    output.say(
        f"{sum(contents.rows.values())} rows in {len(contents.rows)} tables, PostgreSQL {contents.server_major}, "
        + ("no event" if log is None else f"events up to {log.position}")
    )
    for name, revision in contents.streams.items():
        output.say(f"{output.line(name)} at revision {revision}")


def _warn(manifest: Manifest, there: Contents | None, keys: Keys, not_installed: Sequence[str]) -> None:
    for key in keys.missing:
        output.note(_missing(key), style=output.WARN)
    for plugin in not_installed:
        output.note(
            f"The plugin {output.line(plugin)} is not installed: its tables are restored, and nobody reads them.",
            style=output.WARN,
        )
    for name, revision in (there.streams if there else {}).items():
        after = manifest.contents.streams.get(name, 0)
        if after < revision:
            output.note(
                f"{output.line(name)} goes back from revision {revision} to {after}. Satellites that hold a newer one "
                "follow when they connect.",
                style=output.WARN,
            )


def _missing(key: NeededKey) -> str:
    return f"{_named_key(key)} is neither here nor in the backup: they cannot be read without it."


def _named_key(key: NeededKey) -> str:
    rows = "1 row needs," if key.rows == 1 else f"{key.rows} rows need,"
    return f"The key {output.line(key.fingerprint)} of {output.line(key.plugin)}, which {rows}"


def _print(
    as_json: bool,
    manifest: Manifest,
    there: Contents | None,
    keys: Keys,
    not_installed: Sequence[str],
    *,
    unreadable: Mapping[str, Sequence[str]] | None,
) -> None:
    if as_json:
        output.print_json(
            {
                "restored": unreadable is not None,
                "manifest": manifest.model_dump(mode="json", by_alias=True),
                "replaces": None if there is None else there.model_dump(mode="json", by_alias=True),
                "missingKeys": [key.model_dump(mode="json", by_alias=True) for key in keys.missing],
                "notInstalled": list(not_installed),
                "unreadable": {}
                if unreadable is None
                else {name: list(rows) for name, rows in unreadable.items()},
            }
        )
        return
    if unreadable is None:
        output.say("The file is whole and can be restored here. Nothing was changed.", style=output.GOOD)
        return
    for plugin, rows in unreadable.items():
        shown = ", ".join(output.line(one) for one in rows[:_MOST_NAMES]) + (
            " …" if len(rows) > _MOST_NAMES else ""
        )
        output.say(f"Rows of {plugin} that cannot be read here: {shown}", style=output.WARN)
    output.say("Restored.", style=output.GOOD)
    output.say(
        "What was revoked or changed since the backup holds again as it did then: look at tokens "
        "(ringfence token list), satellites and secrets."
    )
