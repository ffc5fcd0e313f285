"""`ringfence agent install` and `uninstall`: have systemd start this machine's agent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from ringfence import units
from ringfence.cli import AsJson, CliError, UsageMistake, asks_no_host, output

from ringfence_satellite.agent.credentials import CLIENT_ID, TOKEN, Credentials, CredentialsError

System = Annotated[
    bool | None,
    typer.Option(
        "--system/--user",
        help="A service of the machine, or one of your own manager.",
        show_default="the machine's for root",
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Install into the system in this directory, and start nothing.",
        show_default=False,
    ),
]


@asks_no_host
def install(
    url: Annotated[
        list[str] | None,
        typer.Option(
            envvar="RINGFENCE_AGENT_URL",
            help="Address of the host; repeat for each of its instances.",
            show_default=False,
        ),
    ] = None,
    client_id: Annotated[str | None, typer.Option(help="Id of this satellite.", show_default=False)] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File that holds its token; - reads it from standard input.", show_default=False),
    ] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(
            help="Directory with both, in the files client-id and token.",
            show_default="what an earlier install has kept",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            help="File of certificates (PEM) of authorities to trust beside the system's.", show_default=False
        ),
    ] = None,
    client_cert: Annotated[
        Path | None, typer.Option(help="Certificate (PEM) to show to a proxy.", show_default=False)
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option(help="Key (PEM) of that certificate.", show_default=False)
    ] = None,
    system: System = None,
    run_as: Annotated[
        str | None,
        typer.Option(
            metavar="USER", help="The user that it runs as; made if need be.", show_default="ringfence"
        ),
    ] = None,
    root: Root = None,
    print_only: Annotated[
        bool, typer.Option("--print", help="Show what would be written, and do nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Have systemd start this machine's agent now and at each boot. Again changes only what is different."""
    from ringfence_satellite.agent.settings import AgentSettingsError, websocket_url

    service = units.SATELLITE
    installation = units.Installation.chosen(
        own=None if system is None else not system, run_as=run_as, root=root
    )
    if not url:
        raise UsageMistake("give the address of the host with --url, or RINGFENCE_AGENT_URL")
    try:
        for one in url:
            websocket_url(one)
    except AgentSettingsError as error:
        raise UsageMistake(str(error)) from error
    variables = {"RINGFENCE_AGENT_URL": " ".join(dict.fromkeys(url))}
    files = {
        "RINGFENCE_CA_FILE": ca_file,
        "RINGFENCE_CLIENT_CERT": client_cert,
        "RINGFENCE_CLIENT_KEY": client_key,
    }
    for name, path in files.items():
        if path is not None:
            if root is None and not path.is_file():
                raise UsageMistake(f"there is no file {path}")
            variables[name] = str(path.absolute())
    kept = Credentials(installation.place(installation.directory / "satellite"))
    settings = units.Settings(
        ("agent",), variables, _secrets(client_id, token_file, credentials or kept.directory)
    )
    if print_only:
        _print(installation, settings, as_json)
        return
    outcome = units.install(installation, service, settings)
    if as_json:
        output.print_json(
            {
                "unit": str(installation.unit_path(service)),
                "written": [str(one) for one in outcome.files],
                "started": outcome.started,
                "restarted": outcome.restarted,
            }
        )
        return
    for line in units.telling.done(installation, service, outcome):
        output.say(line)


@asks_no_host
def uninstall(system: System = None, root: Root = None) -> None:
    """Stop the agent that `install` has systemd start, and remove its unit; its settings and results stay."""
    installation = units.Installation.chosen(
        own=None if system is None else not system, run_as=None, root=root
    )
    if not units.uninstall(installation, units.SATELLITE):
        raise CliError(f"there is no {installation.unit_path(units.SATELLITE)}")
    for line in units.telling.removed(installation, units.SATELLITE):
        output.say(line)


def _secrets(client_id: str | None, token_file: Path | None, directory: Path) -> dict[str, str]:
    """The id and the token, from where they are said to be.

    Raises:
        UsageMistake: if one of them is nowhere.
    """
    found = Credentials(directory)
    if client_id is None and token_file is None and not found.is_whole:
        raise UsageMistake(
            "say who this satellite is: --client-id and --token-file, or --credentials",
            hint="`ringfence satellite create NAME` makes both.",
        )
    try:
        id = client_id or found.client_id()
        token = (
            sys.stdin.read()
            if str(token_file) == "-"
            else (token_file or found.token_file).read_text("utf-8")
        )
    except CredentialsError as error:
        raise UsageMistake(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageMistake(f"cannot read the token: {error}") from error
    for what, text in (("id", id), ("token", token)):
        if not text.strip() or not text.strip().isprintable():
            raise UsageMistake(f"the satellite's {what} is empty, or is no line of text")
    return {CLIENT_ID: id.strip(), TOKEN: token.strip()}


def _print(installation: units.Installation, settings: units.Settings, as_json: bool) -> None:
    files = installation.files(units.SATELLITE, settings, to_show=True)
    if as_json:
        output.print_json({"files": units.telling.document(files)})
        return
    for text in units.telling.shown(files):
        output.say(output.line(text) if "\n" not in text else text)
