"""A registry of a test's own, behind the ports: what it has, how often it was asked, and where it holds or fails."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from packaging.requirements import Requirement as PythonRequirement
from ringfence.scripts.packages.lock import Lock, LockedFile, NodePackage, PythonPackage, Requirement
from ringfence.scripts.packages.platform import Platform
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.ports import Progress


def content_of(name: str, version: str, size: int = 1000) -> bytes:
    """What the file of a package has in it: something else for each, and as long as is wanted."""
    seed = hashlib.sha256(f"{name} {version}".encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


@dataclass
class Registry:
    """Implements `Resolver` and `Fetcher`. `has` are the versions and sizes of packages, the newest version last."""

    has: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    """What a package's wheel is for, if not for all: `cp27-cp27m-win32`."""
    asked: list[tuple[str, ...]] = field(default_factory=list)
    platforms: list[Sequence[Platform]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    spoiled: set[str] = field(default_factory=set)
    """Files that come with other bytes than were promised."""
    resolving: asyncio.Event = field(default_factory=asyncio.Event)
    may_resolve: asyncio.Event = field(default_factory=asyncio.Event)
    may_fetch: asyncio.Event = field(default_factory=asyncio.Event)
    """Both are set unless a test clears them."""

    def __post_init__(self) -> None:
        self.may_resolve.set()
        self.may_fetch.set()

    def file(self, name: str, version: str, size: int) -> LockedFile:
        tags = self.tags.get(name, "py3-none-any")
        content = content_of(name, version, size)
        return LockedFile(
            filename=f"{name}-{version}-{tags}.whl",
            sha256=hashlib.sha256(content).hexdigest(),
            size=size,
            url="https://files.invalid/x",
        )

    async def resolve(
        self,
        requirements: Sequence[Requirement],
        platforms: Sequence[Platform],
        progress: Progress,
        *,
        previous: Lock | None = None,
        requires_python: str | None = None,
    ) -> Lock:
        kept = {one.name: one.version for one in (previous.python if previous else ())}
        self.asked.append(tuple(one.text for one in requirements))
        self.platforms.append(platforms)
        progress("looking at the index")
        self.resolving.set()
        await self.may_resolve.wait()
        python, node = [], []
        for one in requirements:
            if one.ecosystem == "npm":
                node.append(self._node(one.text))
            else:
                python.append(self._python(PythonRequirement(one.text), kept))
        return Lock(
            requirements=tuple(requirements),
            python=tuple(python),
            node=tuple(node),
            requires_python=requires_python,
        )

    def _python(self, wanted: PythonRequirement, kept: dict[str, str]) -> PythonPackage:
        fitting = [one for one in self.has.get(wanted.name, ()) if wanted.specifier.contains(one[0])]
        if not fitting:
            raise PackagesError(Why.NOT_FOUND, "the registry has none", package=wanted.name, hint="Look.")
        version, size = next((one for one in fitting if one[0] == kept.get(wanted.name)), fitting[-1])
        return PythonPackage(
            name=wanted.name, version=version, files=(self.file(wanted.name, version, size),)
        )

    def _node(self, text: str) -> NodePackage:
        version, size = self.has[text][-1]
        content = content_of(text, version, size)
        file = LockedFile(
            filename=f"{text}-{version}.tgz", sha256=hashlib.sha256(content).hexdigest(), size=size
        )
        return NodePackage(path=f"node_modules/{text}", name=text, version=version, file=file)

    async def fetch(self, file: LockedFile) -> AsyncIterator[bytes]:
        self.fetched.append(file.filename)
        name, version = file.filename.removesuffix(".tgz").split("-")[:2]
        content = content_of(name, version, file.size)
        if file.filename in self.spoiled:
            content = b"x" + content[1:]
        half = len(content) // 2
        yield content[:half]
        await self.may_fetch.wait()
        yield content[half:]
