"""A program that writes a policy and is killed at a chosen moment: `DATABASE_URL DATA_DIR N`.

It dies of SIGKILL just before the Nth statement of the write, COMMIT included, and lives if there are fewer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from sqlalchemy import event

from ringfence.host import Host
from ringfence.settings import HostSettings
from ringfence.testing import client
from ringfence_script_packages.plugin import ScriptPackagesPlugin


async def main(url: str, data_dir: str, fatal: int) -> None:
    settings = HostSettings(database_url=url, data_dir=Path(data_dir))
    async with Host(settings, plugins=[ScriptPackagesPlugin()]) as host, client(host) as http:
        seen = 0

        def count(*_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        engine = host.runtime.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", count)
        event.listen(engine, "commit", count)
        answer = await http.patch("/api/script-packages/sandbox-policy", json={"policy": {"enabled": True}})
        assert answer.status_code == 200, answer.text


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
