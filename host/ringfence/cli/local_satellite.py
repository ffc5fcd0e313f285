"""The satellite that `ringfence up` connects by itself: registered once, its agent kept running."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import NOT_FOUND
from typing import TYPE_CHECKING, Any

import structlog

from ringfence.cli.client import ApiError, HostClient
from ringfence.cli.satellite import SATELLITES, every
from ringfence.process import children as processes
from ringfence.process.errors import CliError

if TYPE_CHECKING:
    from ringfence.storage.datadir import DataDir

NAME = "local"
NOTE = "local-satellite.json"
TOKEN = "local-satellite-token"  # noqa: S105  (a file's name)
CONNECT_SECONDS = 20.0
RESTART_SECONDS = 2.0
"""Pause before an agent that ended by itself is started again."""

_log = structlog.get_logger("ringfence.up")


def register(host: HostClient, data_dir: DataDir) -> str:
    """The id of this data directory's satellite, made if it is not there; its token is in the file `TOKEN`.

    Several hosts may share a database, so the name alone does not say whose a satellite is: the id is noted
    in the data directory.
    """
    satellites = list(every(host))
    noted = _noted_id(data_dir)
    if noted in {satellite["id"] for satellite in satellites} and (data_dir.path / TOKEN).exists():
        return str(noted)
    taken = {satellite["name"] for satellite in satellites}
    name = NAME if NAME not in taken else f"{NAME}-{secrets.token_hex(3)}"
    try:
        made = host.request("POST", SATELLITES, body={"name": name, "region": "local", "tags": ["local"]})
    except ApiError as error:
        raise CliError(f"the local satellite could not be registered: {error.message}") from error
    data_dir.write_private(TOKEN, made["token"] + "\n")
    data_dir.write_private(NOTE, json.dumps({"id": made["satellite"]["id"]}) + "\n")
    return str(made["satellite"]["id"])


def _noted_id(data_dir: DataDir) -> str | None:
    try:
        note = json.loads((data_dir.path / NOTE).read_text())
    except (OSError, ValueError):
        return None
    return str(note["id"]) if isinstance(note, dict) and "id" in note else None


@asynccontextmanager
async def agent_running(url: str, satellite_id: str, data_dir: DataDir) -> AsyncIterator[None]:
    """Keep an agent for the satellite running, as a process of its own, while the block runs."""
    arguments = [
        "agent",
        "--url",
        url,
        "--client-id",
        satellite_id,
        "--token-file",
        str(data_dir.path / TOKEN),
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


def connected(host: HostClient, satellite_id: str) -> dict[str, Any] | None:
    """The satellite as the host sees it, once it is online and has applied a policy; until then None."""
    try:
        satellite: dict[str, Any] = host.request("GET", f"{SATELLITES}/{satellite_id}")
    except ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise
    is_ready = satellite["status"] == "online" and satellite.get("appliedRevision") is not None
    return satellite if is_ready else None


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
