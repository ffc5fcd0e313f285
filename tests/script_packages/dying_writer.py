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
from pathlib import Path

from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.testing import client
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from sqlalchemy import event


async def write(url: str, data_dir: str, fatal: int) -> None:
    settings = HostSettings(database_url=url, data_dir=Path(data_dir))
    async with Host(settings, plugins=[ScriptPackagesPlugin()]) as host, client(host) as http:
        seen = 0
        writing = True

        def count(*_: object) -> None:
            nonlocal seen
            seen += writing
            if writing and seen == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        engine = host.runtime.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", count)
        event.listen(engine, "commit", count)
        answer = await http.patch("/api/script-packages/sandbox-policy", json={"policy": {"enabled": True}})
        writing = False  # What the host does by itself after that is no part of the write.
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
