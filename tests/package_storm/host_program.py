"""An instance of the storm: `DATABASE_URL DATA_DIR PORT`. It asks the registries that its environment names."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from ringfence.host import Host
from ringfence.process import logs
from ringfence.settings import HostSettings
from ringfence.testing import client
from ringfence.web.server import listen, serving, url_of
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.packages.blobs import PostgresBlobs
from ringfence_script_packages.packages.collecting import Collector
from ringfence_script_packages.packages.resolving.resolver import RegistryPackages
from ringfence_script_packages.packages.sets import Sets
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.package_storm.doom import DOOM, say
from tests.package_storm.machine import prepare, run_scripts, take_orders


def watch() -> None:
    """The points that only an instance has."""
    DOOM.watch(RegistryPackages, "resolve", "resolve")
    DOOM.watch(RegistryPackages, "fetch", "download")
    DOOM.watch(PostgresBlobs, "put", "store")
    DOOM.watch(Sets, "_put", "announce")
    DOOM.watch(Collector, "collect", "collect")


async def main(url: str, data_dir: str, port: str) -> None:
    """Serve until the test ends it."""
    settings = HostSettings(database_url=url, data_dir=Path(data_dir))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with listen("127.0.0.1", int(port)) as listener:
        async with (
            Host(settings, plugins=[ScriptPackagesPlugin(), SatellitePlugin()]) as host,
            serving(host.app, listener),
            client(host) as http,
        ):

            async def answer(order: dict[str, Any]) -> None:
                method, path, body = order["ask"]
                try:
                    answer = await http.request(method, path, json=body, timeout=60)
                    told = {"status": answer.status_code, "body": answer.json()}
                except Exception as error:
                    told = {"status": 0, "body": repr(error)}
                say({"answer": order["id"], **told})

            say({"ready": url_of(listener)})
            tasks = [asyncio.create_task(run_scripts()), asyncio.create_task(take_orders(answer))]
            tasks.append(asyncio.create_task(stop.wait()))  # type: ignore[arg-type]
            done, going = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in going:
                task.cancel()
            await asyncio.wait(going)
            for task in done:
                task.result()


if __name__ == "__main__":
    logs.configure()
    prepare()
    watch()
    asyncio.run(main(*sys.argv[1:]))
