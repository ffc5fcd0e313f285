"""A program that writes the policy again and again, each time killed at a chosen moment: `DATABASE_URL DATA_DIR`.

For every number N on its standard input it forks a child that starts a host and writes, and that dies of SIGKILL just
before the Nth statement of the write, COMMIT included; with fewer statements it lives. It prints how
the child ended.
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
from ringfence_script_packages.plugin import ScriptPackagesPlugin

_fatal: ContextVar[int] = ContextVar("fatal")
"""At which statement to die; set only for what the write does, and not for what the host does by itself meanwhile."""


def die_at_fatal_statement() -> None:
    """Count every statement and commit at the driver, whoever sends it."""
    seen = 0

    def count() -> None:
        nonlocal seen
        if (fatal := _fatal.get(0)) and (seen := seen + 1) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **options: Any) -> Any:
            count()
            return await method(*arguments, **options)

        return call

    psycopg.AsyncCursor.execute = counted(psycopg.AsyncCursor.execute)  # type: ignore[assignment]
    psycopg.AsyncConnection.commit = counted(psycopg.AsyncConnection.commit)  # type: ignore[assignment, method-assign]


async def write(url: str, data_dir: str, fatal: int) -> None:
    settings = HostSettings(database_url=url, data_dir=Path(data_dir))
    async with Host(settings, plugins=[ScriptPackagesPlugin()]) as host, client(host) as http:
        die_at_fatal_statement()
        token = _fatal.set(fatal)
        # Another value for each child: what changes nothing writes nothing.
        policy = {"resources": {"cpuSeconds": os.getpid()}}
        answer = await http.patch("/api/script-packages/sandbox-policy", json={"policy": policy})
        _fatal.reset(token)
        assert answer.status_code == 200, answer.text


def main(url: str, data_dir: str) -> None:
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            os.dup2(2, 1)
            asyncio.run(write(url, data_dir, int(line)))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
