"""The satellite that `ringfence up` connects by itself: registered once, its agent kept running."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from rich.text import Text
from ringfence.cli import ApiError, CliError, HostClient, output
from ringfence.process import children as processes

from ringfence_satellite.client import LOCAL_NOTE, SATELLITES, connected, every, local_id
from ringfence_satellite.commands.satellite import enforced_text

if TYPE_CHECKING:
    from ringfence.cli import Line, Serving

NAME = "local"
TOKEN = "local-satellite-token"  # noqa: S105  (a file's name)
CONNECT_SECONDS = 20.0
RESTART_SECONDS = 2.0
"""Pause before an agent that ended by itself is started again."""

_log = structlog.get_logger("ringfence.up")


def register(instance: Serving) -> str:
    """The id of this data directory's satellite, made if it is not there; its token is in the file `TOKEN`.

    Several hosts may share a database, so the name alone does not say whose a satellite is: the id is noted
    in the data directory.
    """
    host, data_dir = instance.host, instance.data_dir
    satellites = list(every(host))
    noted = local_id(data_dir.path)
    if noted in {satellite["id"] for satellite in satellites} and (data_dir.path / TOKEN).exists():
        return str(noted)
    taken = {satellite["name"] for satellite in satellites}
    name = NAME if NAME not in taken else f"{NAME}-{secrets.token_hex(3)}"
    try:
        made = host.request("POST", SATELLITES, body={"name": name, "region": "local", "tags": ["local"]})
    except ApiError as error:
        raise CliError(f"the local satellite could not be registered: {error.message}") from error
    data_dir.write_private(TOKEN, made["token"] + "\n")
    data_dir.write_private(LOCAL_NOTE, json.dumps({"id": made["satellite"]["id"]}) + "\n")
    return str(made["satellite"]["id"])


@asynccontextmanager
async def connected_beside(instance: Serving) -> AsyncIterator[Sequence[Line]]:
    """Have this machine be a satellite of the instance while the block runs."""
    satellite_id = await asyncio.to_thread(register, instance)
    async with agent_running(instance, satellite_id):
        satellite = await until_connected(instance.host, satellite_id)
        if satellite is None:
            output.note(
                "The local satellite has not connected yet; it keeps trying (see its log above).",
                style=output.WARN,
            )
        yield () if satellite is None else (("satellite", _text(satellite)),)


def _text(satellite: Mapping[str, Any]) -> Text:
    revision = satellite["appliedRevision"]
    text = Text(f"{output.line(satellite['name'])} is online at revision {revision}, enforces ")
    return text.append_text(enforced_text(satellite))


@asynccontextmanager
async def agent_running(instance: Serving, satellite_id: str) -> AsyncIterator[None]:
    """Keep an agent for the satellite running, as a process of its own, while the block runs."""
    arguments = [
        "agent",
        "--url",
        instance.url,
        "--client-id",
        satellite_id,
        "--token-file",
        str(instance.data_dir.path / TOKEN),
    ]
    process = processes.start(arguments)

    async def keep() -> None:
        nonlocal process
        while True:
            status = await asyncio.to_thread(process.wait)
            _log.warning("the local satellite's agent ended; starting it again", status=status)
            await asyncio.sleep(RESTART_SECONDS)
            process = processes.start(arguments)

    keeper = asyncio.create_task(keep(), name="local satellite's agent")
    try:
        yield
    finally:
        keeper.cancel()
        # At once: what is awaited from here on may be cancelled, and the agent must not be left behind.
        process.terminate()
        await asyncio.gather(asyncio.to_thread(processes.stop, process), keeper, return_exceptions=True)


async def until_connected(host: HostClient, satellite_id: str) -> dict[str, Any] | None:
    """Wait for that; None if it takes longer than `CONNECT_SECONDS`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CONNECT_SECONDS
    while loop.time() < deadline:
        satellite = await asyncio.to_thread(connected, host, satellite_id)
        if satellite is not None:
            return satellite
        await asyncio.sleep(0.05)
    return None
