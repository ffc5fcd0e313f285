"""The two servers that `benchmarks.relay` compares: a whole instance of Ringfence, and a plain FastAPI loop.

Either is told what to do by lines of JSON on standard input and answers each with one line. It prints its
readiness first. Arguments: `ringfence PORT DATABASE_URL DATA_DIR` or `plain PORT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from ringfence.host import Host
from ringfence.sandbox import DEFAULT_POLICY
from ringfence.settings import HostSettings
from ringfence.testing import client
from ringfence.web.server import listen, serving
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from sqlalchemy import text

POLICY = "/api/script-packages/sandbox-policy"
Change = Callable[[int], Awaitable[dict[str, float]]]


def resident_bytes() -> int:
    """How much memory this process holds, garbage apart."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def answer_commands(change: Change) -> None:
    """Serve the orchestrator until its input ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps({"ready": time.time(), "resident": resident_bytes()}), flush=True)
    while line := await reader.readline():
        asked = json.loads(line)
        answer: dict[str, Any] = {"resident": resident_bytes()}
        if "change" in asked:
            answer |= await change(asked["change"])
        print(json.dumps(answer), flush=True)


async def ringfence(port: int, database_url: str, data_dir: str) -> None:
    """One instance, just as `ringfence up` would serve it."""
    settings = HostSettings(database_url=database_url, data_dir=Path(data_dir))
    with listen("127.0.0.1", port) as listener:
        async with (
            Host(settings, plugins=[ScriptPackagesPlugin(), SatellitePlugin()]) as host,
            serving(host.app, listener),
            client(host) as api,
        ):

            async def change(number: int) -> dict[str, float]:
                body = {"policy": {"resources": {"cpuSeconds": 10 + number}}}
                answer = await api.put(POLICY, json=body, headers={"If-Match": "*"})
                assert answer.status_code == 200, answer.text
                revision = int(answer.json()["revision"])
                return {"committed": await time_of_commit(host, revision), "revision": revision}

            await answer_commands(change)


async def time_of_commit(host: Host, revision: int) -> float:
    """When the database committed this revision of the policy, by its own record (`track_commit_timestamp`)."""
    statement = text("""
        SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM events
         WHERE stream = 'sandbox-policy' AND version = :revision
    """)
    async with host.runtime.database.sessions() as session:
        return float((await session.execute(statement, {"revision": revision})).scalar_one())


async def plain(port: int) -> None:
    """What one writes first: keep the sockets in a list, and send to each in turn."""
    app = FastAPI()
    sockets: list[WebSocket] = []

    @app.websocket("/api/ws/satellite")
    async def satellite(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_json()
        await websocket.send_json(
            {"type": "authenticated", "sandboxPolicy": DEFAULT_POLICY.to_wire(), "sandboxPolicyRevision": 0}
        )
        sockets.append(websocket)
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.receive_json()
        sockets.remove(websocket)

    async def change(number: int) -> dict[str, float]:
        policy = DEFAULT_POLICY.to_wire() | {"resources": {"cpuSeconds": 10 + number}}
        began = time.time()
        for websocket in sockets:
            await websocket.send_json({"type": "sandbox_policy", "policy": policy, "revision": number})
        return {"committed": began, "revision": number}

    async with _plainly_served(app, port):
        await answer_commands(change)


@contextlib.asynccontextmanager
async def _plainly_served(app: FastAPI, port: int) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="error",
        ws_per_message_deflate=False,
        lifespan="off",
        backlog=4096,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


def main(kind: str, port: str, *rest: str) -> None:
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(ringfence(int(port), *rest) if kind == "ringfence" else plain(int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
