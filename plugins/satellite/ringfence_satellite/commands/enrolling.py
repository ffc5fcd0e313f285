"""`ringfence satellite enrol`: a directory that holds a satellite's credentials, made once.

It is for machines and containers that come up by themselves: whoever starts one gives it a token that may do only this,
and only for some labels; the agent then has credentials of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from ringfence.cli import AsJson, CliError, HostClient, lists, output

from ringfence_satellite.agent.credentials import Credentials, CredentialsError
from ringfence_satellite.client import REGIONS, SATELLITES
from ringfence_satellite.commands.pairs import labels_of


def enrol(
    name: Annotated[str, typer.Argument(help="The satellite's name, such as that of its machine.")],
    directory: Annotated[
        Path,
        typer.Option(
            help="Directory for the credentials, which `ringfence agent --credentials` takes; made if it is not there."
        ),
    ],
    region: Annotated[
        str, typer.Option(help="Where it is, if it is new.", autocompletion=REGIONS)
    ] = "default",
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE|NAME",
            help="A label, if it is new; repeat for more.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have a directory hold the credentials of a satellite: as they are, or else of that name.

    What is there already stays, and no host is asked. Otherwise the satellite is registered; one of that name that is
    not connected is given a new token.
    """
    credentials = Credentials(directory)
    if credentials.is_whole:
        _tell(credentials, {"id": credentials.client_id(), "name": name}, "is enrolled already", as_json)
        return
    try:
        credentials.make_ready()
        with HostClient.connect() as host:
            made, said = _obtained(host, name, region, labels or [])
            credentials.write(made["satellite"]["id"], made["token"])
    except CredentialsError as error:
        raise CliError(str(error)) from error
    _tell(credentials, made["satellite"], said, as_json)


def _obtained(host: HostClient, name: str, region: str, labels: list[str]) -> tuple[Any, str]:
    known = next(iter(lists.every(host, SATELLITES, "satellites", {"name": name})), None)
    if known is None:
        body = {"name": name, "region": region, "labels": labels_of(labels)}
        return host.request("POST", SATELLITES, body=body), "is enrolled"
    if known.get("connectedAt") is not None:
        raise CliError(
            f"a satellite named {output.line(name)} is connected, and would lose its token",
            hint="Stop its agent first, or take another name.",
        )
    path = f"{SATELLITES}/{quote(str(known['id']), safe='')}/rotate-token"
    return host.request("POST", path), "was known, and has a new token"


def _tell(credentials: Credentials, satellite: Any, said: str, as_json: bool) -> None:
    if as_json:
        shown = {"id": satellite["id"], "name": satellite["name"], "directory": str(credentials.directory)}
        output.print_json(shown)
        return
    output.say(f"{output.line(satellite['name'])} {said}: its credentials are in {credentials.directory}.")
