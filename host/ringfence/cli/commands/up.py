"""`ringfence up`: a whole installation in one command: database, host, and a satellite on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli import chosen
from ringfence.cli.address import local_data_dir
from ringfence.cli.options import asks_no_host
from ringfence.cli.server_extra import needs_server
from ringfence.process import children as processes
from ringfence.process import logs, settings_file


@asks_no_host
def up(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="RINGFENCE_HOST, or 127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen on; 0 picks a free one.",
            show_default="RINGFENCE_PORT, or 8484",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where this instance keeps its files.", show_default="RINGFENCE_DATA_DIR, or per user"
        ),
    ] = None,
    satellite: Annotated[
        bool,
        typer.Option("--satellite/--no-satellite", help="Connect this machine as a satellite named local."),
    ] = True,
    die_with: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start a host, with a database of its own and this machine as a satellite; Ctrl-C stops it all."""
    given = chosen.now().data_dir
    data_dir = data_dir or (Path(given) if given else None)
    settings_file.apply(data_dir.absolute() if data_dir else local_data_dir())
    logs.configure()
    with needs_server("ringfence up"):
        from ringfence.cli.commands import instance
    if die_with is not None:
        processes.die_with(die_with)
    settings = instance.read_settings(host=host, port=port, data_dir=data_dir)
    instance.serve_until_stopped(settings, with_satellite=satellite)
