"""A machine whose disk is full, and then is not: run in a mount namespace of its own (unshare(1))."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from ringfence.scripts.packages.keeping import KeptTrees
from ringfence.scripts.packages.lock import Lock, LockedFile
from ringfence.scripts.packages.platform import Platform

from tests.packages.archives import Registry, wheel
from tests.packages.machines import DEBIAN


class Source:
    """A registry whose files are larger than the disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._registry = Registry(directory)
        filling = "".join(f"{number:08}" for number in range(250_000))
        self._registry.python("greeting", wheel("greeting", {"greeting.py": f"WORD = '{filling}'\n"}))

    async def lock(self, hash: str) -> Lock:
        return self._registry.lock

    @property
    def hash(self) -> str:
        return self._registry.lock.hash

    async def blob(self, file: LockedFile, *, offset: int) -> AsyncIterator[bytes]:
        content = (self._directory / file.sha256).read_bytes()[offset:]
        for at in range(0, len(content), 65536):
            yield content[at : at + 65536]


async def debian() -> Platform:
    return DEBIAN


async def main(files: Path, disk: Path) -> list[str]:
    """What the set's status says, with ever more room."""
    source = Source(files)
    trees = KeptTrees(disk / "packages", source, debian)
    trees.want({"default": source.hash})
    said = []
    for size in ("64k", "1m", "64m"):
        subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
        await trees.reconcile()
        status = trees.status["default"]
        made = len(list((disk / "packages/trees").iterdir())) if (disk / "packages/trees").is_dir() else 0
        said.append(f"{status.state.value}, {made} made: {status.error}")
    return said


if __name__ == "__main__":
    disk = Path(sys.argv[2])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), disk))))
