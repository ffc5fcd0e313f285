"""The host that `benchmarks.http` asks: just as `ringfence up` serves it, on the event loop and parser that are named.

Arguments: DATABASE_URL DATA_DIR LOOP PARSER, with asyncio or uvloop and h11 or httptools. It prints its URL and its
administrator's token as one line of JSON, and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import structlog
from ringfence.host import serve
from ringfence.settings import HostSettings
from ringfence.web import server


async def serve_until_told(settings: HostSettings) -> None:
    """Serve until standard input ends."""
    async with serve(settings) as (host, url):
        token = host.data_dir.admin_token_path.read_text().strip()
        print(json.dumps({"url": url, "token": token}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main(database_url: str, data_dir: str, loop: str, parser: str) -> None:
    logging.disable(logging.WARNING)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if parser == "httptools":
        # As uvicorn has it, so without the deadlines and limits of `ringfence.web.idle_connections`.
        found = importlib.import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
        vars(server)["receiving_protocol"] = lambda _: found
    new_loop = importlib.import_module("uvloop").new_event_loop if loop == "uvloop" else None
    settings = HostSettings(database_url=database_url, data_dir=Path(data_dir), port=0)
    factory = cast("Callable[[], Any] | None", new_loop)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve_until_told(settings))


if __name__ == "__main__":
    main(*sys.argv[1:])
