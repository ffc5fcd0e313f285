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
from ringfence.process.errors import UsageMistake

_SERVICE = "As a service"


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
    install: Annotated[
        bool,
        typer.Option(
            "--install",
            help="Have systemd start it so, now and at each boot: the machine's for root.",
            rich_help_panel=_SERVICE,
        ),
    ] = False,
    uninstall: Annotated[
        bool,
        typer.Option("--uninstall", help="Stop that service, and remove its unit.", rich_help_panel=_SERVICE),
    ] = False,
    run_as: Annotated[
        str | None,
        typer.Option(
            metavar="USER",
            help="With --install by root: the user that it runs as; made if need be.",
            show_default="ringfence",
            rich_help_panel=_SERVICE,
        ),
    ] = None,
    print_only: Annotated[
        bool,
        typer.Option(
            "--print",
            help="With --install: show what would be written, and do nothing.",
            rich_help_panel=_SERVICE,
        ),
    ] = False,
    die_with: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start a host, with a database of its own and this machine as a satellite; Ctrl-C stops it all."""
    given = chosen.now().data_dir
    data_dir = data_dir or (Path(given) if given else None)
    if install or uninstall or run_as is not None or print_only:
        if install == uninstall or (uninstall and (run_as is not None or print_only)):
            raise UsageMistake("--run-as and --print go with --install, and --uninstall goes alone")
        from ringfence.cli.commands import up_service

        if uninstall:
            up_service.uninstall()
        else:
            up_service.install(
                host=host,
                port=port,
                data_dir=data_dir,
                satellite=satellite,
                run_as=run_as,
                print_only=print_only,
            )
        return
    settings_file.apply(data_dir.absolute() if data_dir else local_data_dir())
    logs.configure()
    with needs_server("ringfence up"):
        from ringfence.cli.commands import instance
    if die_with is not None:
        processes.die_with(die_with)
    settings = instance.read_settings(host=host, port=port, data_dir=data_dir)
    instance.serve_until_stopped(settings, with_satellite=satellite)
