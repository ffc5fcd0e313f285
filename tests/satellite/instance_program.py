"""An instance as a process of its own, to be killed.

Arguments: `DATABASE_URL DATA_DIR PORT`, and `checks` if it is to have checks and secrets too. Prints its URL and id
once it serves.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import structlog
from ringfence.host import Host
from ringfence.plugins.discovery import Plugin
from ringfence.settings import HostSettings
from ringfence.web.server import listen, serving, url_of
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin


async def main(database_url: str, data_dir: str, port: str, *more: str) -> None:
    # Nobody reads standard output beyond the first line.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = HostSettings(database_url=database_url, data_dir=Path(data_dir))
    plugins: list[Plugin] = [ScriptPackagesPlugin(), SatellitePlugin()]
    if "checks" in more:
        plugins += [SecretsPlugin(), HealthChecksPlugin()]
    with listen("127.0.0.1", int(port)) as listener:
        async with (
            Host(settings, plugins=plugins) as host,
            serving(host.app, listener),
        ):
            print(url_of(listener), host.instance_id, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
