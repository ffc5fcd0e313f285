"""An instance with automations and notifications, to be killed: `DATABASE_URL DATA_DIR PORT [quick]`.

Prints its URL once it serves. `quick`: the others take its jobs over sooner than with the shipped settings.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from pathlib import Path

import structlog
from ringfence.host import Host
from ringfence.jobs import worker
from ringfence.plugins.discovery import Plugin
from ringfence.settings import HostSettings
from ringfence.web.server import listen, serving, url_of
from ringfence_automations.plugin import AutomationsPlugin
from ringfence_notifications.delivery import delivering
from ringfence_notifications.plugin import NotificationsPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin

from tests.automations.fleet.storm import StormPlugin


async def main(database_url: str, data_dir: str, port: str, *more: str) -> None:
    # Nobody reads standard output beyond the first line.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if "quick" in more:
        worker.BEAT_SECONDS, worker.FENCE_SECONDS, worker.GONE_SECONDS = 0.5, 5.0, 7.0
        delivering.LEASE = dt.timedelta(seconds=20)  # type: ignore[attr-defined]
    settings = HostSettings(database_url=database_url, data_dir=Path(data_dir))
    plugins: list[Plugin] = [
        ScriptPackagesPlugin(),
        SecretsPlugin(),
        SatellitePlugin(),
        AutomationsPlugin(),
        NotificationsPlugin(),
        StormPlugin(),
    ]
    with listen("127.0.0.1", int(port)) as listener:
        async with Host(settings, plugins=plugins) as host, serving(host.app, listener):
            print(url_of(listener), host.instance_id, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
