"""A program that installs a set again and again, each time killed at a chosen moment: `DATABASE_URL DATA_DIR`.

For every number N on its standard input it forks a child that starts a host and asks for newer versions, and that dies
of SIGKILL just before the Nth statement that the installer sends from then on, COMMIT included; with fewer statements
it lives. It prints how the child ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psycopg
from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.testing import client
from ringfence_script_packages.packages.installing import Installer
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.script_packages.packages.conftest import Packages
from tests.script_packages.packages.registry import Registry

SIZE = 1_500_000
"""More than one piece."""


_installs: ContextVar[bool] = ContextVar("installs", default=False)
"""Set for what the installer does, and not for what the host does by itself meanwhile."""


def mark_the_installer() -> None:
    lead = Installer.lead

    async def marked(self: Installer) -> None:
        _installs.set(True)
        await lead(self)

    Installer.lead = marked  # type: ignore[method-assign]


def die_at_statement(fatal: int) -> None:
    """Count each statement and commit of the installer at the driver from now on."""
    seen = 0

    def counted(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            if _installs.get() and (seen := seen + 1) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return await method(*arguments, **options)

        return call

    psycopg.AsyncCursor.execute = counted(psycopg.AsyncCursor.execute)  # type: ignore[assignment]
    psycopg.AsyncConnection.commit = counted(psycopg.AsyncConnection.commit)  # type: ignore[assignment, method-assign]


async def install(url: str, data_dir: str, fatal: int) -> None:
    # Another version for each child, so that there is something to do.
    registry = Registry({"alpha": [(f"{os.getpid()}.0", SIZE)], "beta": [("1.0", 10)]})
    mark_the_installer()
    settings = HostSettings(database_url=url, data_dir=Path(data_dir))
    plugin = ScriptPackagesPlugin(resolver=registry, fetcher=registry)
    async with Host(settings, plugins=[plugin]) as host, client(host) as http:
        packages = Packages(http)
        await packages.allow("alpha", "beta")
        die_at_statement(fatal)
        assert (await packages.install(upgrade=True))["state"] == "current"


def main(url: str, data_dir: str) -> None:
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            os.dup2(2, 1)
            asyncio.run(install(url, data_dir, int(line)))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
