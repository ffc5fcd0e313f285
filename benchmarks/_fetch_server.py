"""One instance that has a set of packages for satellites to fetch. Arguments: `PORT DATABASE_URL DATA_DIR BYTES`.

It is told what to do as those of `_relay_servers` are, and says of which lock the set is once it is ready.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog
from ringfence.host import Host
from ringfence.plugins.discovery import Plugin
from ringfence.scripts.packages.lock import Lock, LockedFile, PythonPackage, Requirement
from ringfence.scripts.packages.platform import Platform
from ringfence.settings import HostSettings
from ringfence.testing import client
from ringfence.web.server import listen, serving
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.packages.ports import Progress
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from benchmarks._relay_servers import POLICY, answer_commands, time_of_commit

FILES = 5


class OneSet:
    """A registry of some large files. What is in them is no matter: nobody here unpacks them."""

    def __init__(self, size: int) -> None:
        self._contents = {}
        for number in range(FILES):
            content = random.Random(number).randbytes(size // FILES)
            self._contents[hashlib.sha256(content).hexdigest()] = content

    async def resolve(
        self,
        requirements: Sequence[Requirement],
        platforms: Sequence[Platform],
        progress: Progress,
        **_: object,
    ) -> Lock:
        """A lock of all of it."""
        packages = [
            PythonPackage(
                name=f"large{number}",
                version="1.0",
                files=(
                    LockedFile(
                        filename=f"large{number}-1.0-py3-none-any.whl", sha256=sha256, size=len(content)
                    ),
                ),
            )
            for number, (sha256, content) in enumerate(self._contents.items())
        ]
        return Lock(requirements=tuple(requirements), python=tuple(packages))

    async def fetch(self, file: LockedFile) -> AsyncIterator[bytes]:
        """A file of it."""
        yield self._contents[file.sha256]


async def main(port: int, url: str, data_dir: str, size: int) -> None:
    """Install the set, and serve."""
    registry = OneSet(size)
    plugins: list[Plugin] = [ScriptPackagesPlugin(resolver=registry, fetcher=registry), SatellitePlugin()]
    settings = HostSettings(database_url=url, data_dir=Path(data_dir))
    with listen("127.0.0.1", port) as listener:
        async with Host(settings, plugins=plugins) as host, serving(host.app, listener), client(host) as api:
            (await api.post(f"{PACKAGES}/entries", json={"packages": ["large"]})).raise_for_status()
            (await api.post(f"{PACKAGES}/sets/default/install", json={})).raise_for_status()
            while (told := (await api.get(f"{PACKAGES}/sets/default")).json())["state"] != "current":
                if told["state"] == "failed":
                    raise SystemExit(f"the set cannot be installed: {told['error']}")
                await asyncio.sleep(0.1)
            registry._contents.clear()
            print(json.dumps({"lock": told["lockHash"]}), flush=True)

            async def change(number: int) -> dict[str, float]:
                body = {"policy": {"resources": {"cpuSeconds": 10 + number}}}
                answer = await api.put(POLICY, json=body, headers={"If-Match": "*"})
                assert answer.status_code == 200, answer.text
                revision = int(answer.json()["revision"])
                return {"committed": await time_of_commit(host, revision), "revision": revision}

            await answer_commands(change)


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
