"""Serve such a host until it is interrupted: `python -m tests.lifelike`."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress

from ringfence.host import serve
from ringfence.plugins.discovery import discover
from ringfence.settings import HostSettings
from ringfence.testing import make_reachable_directory

from tests.lifelike.filling import filled


async def main() -> None:
    """Fill one, and say where it is."""
    directory = make_reachable_directory()
    try:
        settings = HostSettings(data_dir=directory, port=0)
        async with serve(settings, plugins=discover()) as (host, url), filled(host, url):
            token = host.data_dir.admin_token_path.read_text().strip()
            print(f"{url}  sign in with {token}", flush=True)
            await asyncio.Event().wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


with suppress(KeyboardInterrupt):
    asyncio.run(main())
