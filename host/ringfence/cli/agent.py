"""`ringfence agent`: a satellite's side, on the machine whose scripts it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringfence.cli import logs, processes


def agent(
    url: Annotated[str, typer.Option(help="Where the host is, such as https://core.example.org.")],
    client_id: Annotated[
        str, typer.Option(help="The satellite's id, as `ringfence satellite create` gave it.")
    ],
    token_file: Annotated[
        Path, typer.Option(help="A file with the satellite's token, readable by you alone.")
    ],
    die_with: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Connect this machine to a host as a satellite, and run its scripts under its policy.

    Reconnects by itself; is fail-closed until the first policy comes. Stops on Ctrl-C or SIGTERM.
    """
    from ringfence.cli import agent_process

    settings = agent_process.read_settings(url=url, client_id=client_id, token_file=token_file)
    if die_with is not None:
        processes.die_with(die_with)
    logs.configure()
    agent_process.serve_until_stopped(settings)
