"""A machine that fetches, unpacks, swaps and collects packages for ever, for a test that kills it at any moment.

python -m tests.packages.keeping_worker FILES HERE LOCK…  writes a line at each step, and `wrong: …`
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from ringfence.scripts.packages.keeping import KeptTrees
from ringfence.scripts.packages.lock import Lock, LockedFile
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.provider import PackageTree

from tests.packages.machines import DEBIAN

PIECE, MODULES = 16384, 300


class Files:
    """A source that has files in a directory, and tells of each piece."""

    def __init__(self, directory: Path, locks: dict[str, Lock]) -> None:
        self._directory = directory
        self._locks = locks

    async def lock(self, hash: str) -> Lock:
        return self._locks[hash]

    async def blob(self, file: LockedFile, *, offset: int) -> AsyncIterator[bytes]:
        content = (self._directory / file.sha256).read_bytes()[offset:]
        for at in range(0, len(content), PIECE):
            print("piece", flush=True)
            yield content[at : at + PIECE]


async def debian() -> Platform:
    return DEBIAN


def kept(here: Path, files: Path, locks: dict[str, Lock]) -> KeptTrees:
    return KeptTrees(here, Files(files, locks), debian, grace_s=0)


async def problem(trees: KeptTrees, name: str, locks: dict[str, Lock]) -> str | None:
    """What is wrong with the tree that a run of this set would get now; None if it is whole, or there is none."""
    found = await trees.provide(name)
    if not isinstance(found, PackageTree):
        return None
    with found.pin:
        version = locks[found.lock].python[0].version
        modules = {path.name: path.read_text() for path in (found.pin.path / "python").glob("*.py")}
    expected = {f"m{number}.py": f"WORD = {version!r}\n" for number in range(MODULES)}
    return None if modules == expected else f"{found.lock} has {len(modules)} modules"


async def main(files: Path, here: Path, locks: dict[str, Lock]) -> None:
    """Want other locks again and again."""
    trees = kept(here, files, locks)
    while True:
        for name in ("default", "other"):
            if wrong := await problem(trees, name, locks):
                print(f"wrong: {wrong}", flush=True)
        print("step", flush=True)
        trees.want({name: random.choice([*locks]) for name in ("default", "other")})
        await trees.reconcile()


if __name__ == "__main__":
    read = [Lock.model_validate_json(Path(file).read_text()) for file in sys.argv[3:]]
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), {lock.hash: lock for lock in read}))
