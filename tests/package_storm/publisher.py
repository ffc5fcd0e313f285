"""What the storm's registry has, and what the tree of each lock is to look like."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from pathlib import Path

from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.lock import Lock
from ringfence.scripts.packages.trees import Trees

from tests.packages.archives import wheel
from tests.packages.machines import DEBIAN
from tests.script_packages.resolving.registry import Answer, Registry, told, wheel_name

SIZES = {"alpha": 100_000, "beta": 1_300_000, "gamma": 2_000}
"""How many bytes of each package do not get smaller; the second one has two pieces in the database."""
MODULES = 40


def content_of(name: str, version: str) -> bytes:
    """The wheel of a version, always the same."""
    chance = random.Random(f"{name} {version}")
    files: dict[str, bytes | str] = {f"{name}/m{n}.py": f"WORD = '{version} {n}'\n" for n in range(MODULES)}
    return wheel(name, {**files, f"{name}/data": chance.randbytes(SIZES[name])}, version=version)


def seen(tree: Path) -> str:
    """What `machine.LOOK` prints of a tree."""
    found = [
        f"/packages/{path.relative_to(tree)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in tree.rglob("*")
        if path.is_file()
    ]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


@dataclass
class Publisher:
    """Publishes versions, and makes the trees by which others are judged."""

    registry: Registry
    directory: Path
    versions: dict[str, int] = field(default_factory=dict)
    _pages: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    _seen: dict[str, str] = field(default_factory=dict)

    def publish(self, name: str) -> int:
        """One more version of a package."""
        number = self.versions[name] = self.versions.get(name, 0) + 1
        version = f"{number}.0"
        filename, content = wheel_name(name, version), content_of(name, version)
        self.registry.answers[f"/files/{filename}"] = lambda _: Answer(content_of(name, version))
        page = self._pages.setdefault(name, [])
        page.append(told(filename, content, f"{self.registry.url}/files/{filename}"))
        self.registry.page(name, *page)
        return number

    def expected(self, lock: Lock) -> str:
        """What a run that has this lock prints."""
        if lock.hash not in self._seen:
            blobs = BlobDirectory(self.directory / "blobs")
            for one in lock.python:
                [file] = one.files
                with blobs.receiving(file) as arriving:
                    if not arriving.whole:
                        arriving.write(content_of(one.name, one.version))
                        arriving.finish()
            trees = Trees(self.directory, blobs)
            self._seen[lock.hash] = seen(trees.make(lock, DEBIAN))
            trees.collect((), 0)
            blobs.collect((), 0)
        return self._seen[lock.hash]
