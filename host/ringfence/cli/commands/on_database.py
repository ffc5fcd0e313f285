"""What the commands share that work on the database themselves, whether a host runs or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli.options import use_data_dir
from ringfence.cli.server_extra import needs_server
from ringfence.process.errors import CliError, UsageMistake

if TYPE_CHECKING:
    from ringfence.plugins.discovery import Plugin
    from ringfence.settings import HostSettings

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Data directory of the host; its settings file counts, too.",
        callback=use_data_dir,
        is_eager=True,
        show_default="RINGFENCE_DATA_DIR, or per user",
    ),
]


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Tell what the parts raise. Raises `CliError`."""
    with needs_server("ringfence backup"):
        from ringfence.backup.errors import BackupError
        from ringfence.plugins.registry import PluginError
        from ringfence.settings import SettingsError
        from ringfence.storage.datadir import DataDirError
        from ringfence.storage.errors import DatabaseError
    try:
        yield
    except BackupError as error:
        raise CliError(str(error), hint=error.hint) from error
    except SettingsError as error:
        raise UsageMistake(str(error)) from error
    except (DataDirError, DatabaseError, PluginError) as error:
        raise CliError(str(error)) from error
    except OSError as error:
        where = error.filename or "a file"
        raise CliError(f"cannot read or write {where}: {error.strerror or error}") from error


def settings() -> HostSettings:
    from ringfence.settings import HostSettings, build

    return build(HostSettings)


def plugins() -> Sequence[Plugin]:
    from ringfence.plugins.discovery import discover

    return discover()
