"""An instance in a process of its own, for tests that kill it. It says where it is, and ends when its input does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ringfence.host import serve
from ringfence.settings import HostSettings


async def main(database: str, directory: str) -> None:
    settings = HostSettings(data_dir=Path(directory), port=0, database_url=database)
    async with serve(settings, plugins=[]) as (host, url):
        print(f"at {url} {host.data_dir.admin_token_path.read_text().strip()}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
