"""`ringfence agent`: this machine as a satellite, until it is stopped. Below it is what has systemd do that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from ringfence.process import children as processes
from ringfence.process import kept_logs, logs
from ringfence.process.errors import UsageMistake
from ringfence.process.runner import check_runner
from ringfence.process.trust import TlsFiles
from ringfence.process.variables import unknown_without_a_host

from ringfence_satellite.agent.credentials import Credentials, CredentialsError

app = typer.Typer()


@app.callback(invoke_without_command=True)
def agent(
    context: typer.Context,
    url: Annotated[
        list[str] | None,
        typer.Option(
            envvar="RINGFENCE_AGENT_URL",
            help="Address of the host, such as wss://core.example.org; repeat for each of its instances (in the "
            "environment, put spaces between them).",
            show_default=False,
        ),
    ] = None,
    client_id: Annotated[
        str | None,
        typer.Option(help="Id of this satellite (see: ringfence satellite create).", show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File that holds this satellite's token.", show_default=False)
    ] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(
            help="Directory with both, in the files client-id and token (see: ringfence satellite enrol).",
            envvar="RINGFENCE_AGENT_CREDENTIALS",
            show_default="none",
        ),
    ] = None,
    heartbeat: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            envvar="RINGFENCE_HEARTBEAT_SECONDS",
            help="Seconds between heartbeats.",
            show_default="the protocol's default",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Directory for results that no host has yet, for what checks keep from one run to the next, and for "
            "the packages that scripts import.",
            envvar="RINGFENCE_AGENT_STATE_DIR",
            show_default="beside the token file",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            help="File of certificates (PEM) of authorities to trust beside the system's.",
            envvar="RINGFENCE_CA_FILE",
            show_default="none",
        ),
    ] = None,
    client_cert: Annotated[
        Path | None,
        typer.Option(
            help="Certificate (PEM) to show where a proxy before the host asks for one; its file may hold the key too.",
            envvar="RINGFENCE_CLIENT_CERT",
            show_default="none",
        ),
    ] = None,
    client_key: Annotated[
        Path | None,
        typer.Option(
            help="Key (PEM, without a password) of that certificate.",
            envvar="RINGFENCE_CLIENT_KEY",
            show_default="in the certificate's file",
        ),
    ] = None,
    metrics_address: Annotated[
        str | None,
        typer.Option(
            help="Address and port, such as 127.0.0.1:9464, that serve this agent's /metrics without a token.",
            envvar="RINGFENCE_METRICS_ADDRESS",
            show_default="none",
        ),
    ] = None,
    die_with: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Connect this machine to a host as a satellite, and run its scripts under its policy."""
    if context.invoked_subcommand is not None:
        return
    urls, (client_id, token_file) = _hosts(url), _identity(client_id, token_file, credentials)
    logs.configure()
    # The rest is imported only when this command runs, so that the others start no slower for it.
    import structlog
    from ringfence.metrics.open_port import AddressError, listening_at

    from ringfence_satellite.agent import process
    from ringfence_satellite.agent.delivering.spool import Spool, SpoolError
    from ringfence_satellite.agent.running.runs import MAX_KEPT_RESULTS
    from ringfence_satellite.agent.settings import AgentSettings, AgentSettingsError
    from ringfence_satellite.protocol import HEARTBEAT_SECONDS

    if die_with is not None:
        processes.die_with(die_with)
    else:  # whoever starts one that is to end with it has told of these already
        for one in unknown_without_a_host(os.environ):
            structlog.get_logger("ringfence.satellite.agent").warning(str(one))
    check_runner()
    files = (None if one is None else str(one) for one in (ca_file, client_cert, client_key))
    trusted = TlsFiles(*files).context()
    try:
        settings = AgentSettings(
            urls,
            client_id,
            token_file,
            heartbeat_seconds=HEARTBEAT_SECONDS if heartbeat is None else heartbeat,
            state_dir=state_dir,
            version=process.version(),
        )
        settings.read_token()
        spool = Spool(settings.results_dir)
        asked = Spool(settings.runs_dir, max_results=MAX_KEPT_RESULTS)
        # One that begins and ends with a host leaves the address to it.
        metrics = None if metrics_address is None or die_with is not None else listening_at(metrics_address)
    except (AgentSettingsError, SpoolError, AddressError) as error:
        raise UsageMistake(str(error)) from error
    kept_logs.keep(settings.directory, settings.log_name)
    process.run(settings, spool, asked, trusted, metrics)


def _hosts(url: list[str] | None) -> tuple[str, ...]:
    if not url:
        raise UsageMistake("give the address of the host with --url, or RINGFENCE_AGENT_URL")
    return tuple(url)


def _identity(client_id: str | None, token_file: Path | None, directory: Path | None) -> tuple[str, Path]:
    """Who this satellite is, and where its token is. What is said by itself counts before the directory."""
    if directory is not None and (client_id is None or token_file is None):
        credentials = Credentials(directory)
        try:
            client_id = client_id or credentials.client_id()
        except CredentialsError as error:
            raise UsageMistake(str(error)) from error
        token_file = token_file or credentials.token_file
    if client_id is None or token_file is None:
        raise UsageMistake("say who this satellite is: --client-id and --token-file, or --credentials")
    return client_id, token_file
