"""An instance as a process of its own, to be killed: `DATABASE_URL DATA_DIR PORT`. Prints its URL and
id once it serves.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.web.server import listen, serving, url_of
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin


async def main(database_url: str, data_dir: str, port: str) -> None:
    settings = HostSettings(database_url=database_url, data_dir=Path(data_dir))
    with listen("127.0.0.1", int(port)) as listener:
        async with (
            Host(settings, plugins=[ScriptPackagesPlugin(), SatellitePlugin()]) as host,
            serving(host.app, listener),
        ):
            print(url_of(listener), host.instance_id, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
