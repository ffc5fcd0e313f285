"""An instance to be killed: `python -m tests.notifications.instance_program URL DIRECTORY`.

It sends messages, says so, and never comes to record it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import structlog
from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.testing import installed
from ringfence_notifications.delivery.delivering import Delivering

from tests.notifications.conftest import DoorsPlugin


async def main(url: str, directory: str) -> None:
    """Run until killed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    async def stop_short(self: Delivering, *arguments: object) -> None:
        print("sent", flush=True)
        await asyncio.Event().wait()

    Delivering._record = stop_short  # type: ignore[method-assign, assignment]
    settings = HostSettings(database_url=url, data_dir=Path(directory))
    async with Host(settings, plugins=[*installed("notifications"), DoorsPlugin()]):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
