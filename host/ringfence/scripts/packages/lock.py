"""A lock: exactly which files a set of packages consists of, for every platform. Pure.

Threat: a lock comes from a resolver that has read what registries say, or from another machine: a name in it may be a
path, two entries may be for one place, an address may hold a password. Mechanism: a lock that exists has none of that;
whatever is made from it can take its names for names. Not covered: whether the files are what their names say; who
unpacks them looks (`trees`).
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    field_validator,
    model_validator,
)

from ringfence.bounded import LongText, one_line
from ringfence.sandbox.wire import WireModel
from ringfence.scripts.packages.platform import NodePlatform, Platform, PythonPlatform

MAX_PACKAGES, MAX_FILES = 5000, 1000
"""How many packages a lock may have, and how many files one of them."""

MAX_FILE_BYTES = 2 * 1024**3
"""How large one file of a registry may be, whatever the limit of a set is."""

_NPM_NAME = r"(?:@[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}/)?[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,213}"
_NPM_PATH = re.compile(rf"node_modules/{_NPM_NAME}(?:/node_modules/{_NPM_NAME}){{0,30}}")


def _address(url: str) -> str:
    parts = urlsplit(one_line(url))
    if parts.scheme not in ("http", "https", "file"):
        raise ValueError("must be an address of http, https or file")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a name and a password")
    return url


def _npm_name(name: str) -> str:
    if re.fullmatch(_NPM_NAME, name) is None:
        raise ValueError("must be the name of a package, such as zod or @scope/name")
    return name


def _npm_path(path: str) -> str:
    if _NPM_PATH.fullmatch(path) is None or len(path) > 1000:
        raise ValueError("must be a place beneath node_modules")
    return path


def _normal_name(name: str) -> str:
    if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is None or canonicalize_name(name) != name:
        raise ValueError("must be a package's name in its normal form, such as ruamel-yaml")
    return name


def _python_version(version: str) -> str:
    try:
        Version(version)
    except InvalidVersion:
        raise ValueError("must be a version, such as 2.0.1") from None
    return version


def _marker(marker: str) -> str:
    try:
        Marker(marker)
    except InvalidMarker:
        raise ValueError("must be a marker, such as python_version < '3.12'") from None
    return marker


def _specifiers(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise ValueError("must be a range of versions, such as >=3.11") from None
    return text


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9@_+~!-][A-Za-z0-9._@+~!-]{0,254}$")]
_NodeWord = Annotated[str, StringConstraints(pattern=r"^!?[a-z0-9_]{1,40}$")]


class LockedFile(WireModel):
    """One file of a registry. `url` is where it was found: a hint for who fetches it, and nothing that is relied on."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    filename: _FileName
    sha256: Sha256
    size: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES, strict=True)]
    url: Annotated[str, StringConstraints(max_length=4000), AfterValidator(_address)] | None = Field(
        default=None, repr=False
    )


class PythonPackage(WireModel):
    """One version of a Python package: its wheels, of which each platform takes one, and where it is needed at all."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, StringConstraints(max_length=200), AfterValidator(_normal_name)]
    version: Annotated[str, StringConstraints(max_length=200), AfterValidator(_python_version)]
    marker: Annotated[str, StringConstraints(max_length=4000), AfterValidator(_marker)] | None = None
    files: Annotated[tuple[LockedFile, ...], Field(min_length=1, max_length=MAX_FILES)]

    @field_validator("files")
    @classmethod
    def _sorted(cls, files: tuple[LockedFile, ...]) -> tuple[LockedFile, ...]:
        return tuple(sorted(files, key=lambda file: file.filename))

    @model_validator(mode="after")
    def _wheels_of_this(self) -> Self:
        seen = set()
        for file in self.files:
            try:
                name, version, _, _ = parse_wheel_filename(file.filename)
            except (InvalidWheelFilename, InvalidVersion):
                raise ValueError(
                    f"{file.filename} of {self.name} is no wheel: only wheels are installed"
                ) from None
            if name != self.name or version != Version(self.version):
                raise ValueError(f"{file.filename} is no wheel of {self.name} {self.version}")
            if file.filename in seen:
                raise ValueError(f"{file.filename} is named twice")
            seen.add(file.filename)
        return self

    def needed_by(self, python: PythonPlatform) -> bool:
        """Whether this Python needs it."""
        return self.marker is None or Marker(self.marker).evaluate(dict(python.markers))

    def file_for(self, python: PythonPlatform) -> LockedFile | None:
        """The best wheel for this Python; None if none fits."""
        ranks = _ranks(python)
        best: tuple[int, Any] | None = None
        chosen = None
        for file in self.files:
            _, _, build, tags = parse_wheel_filename(file.filename)
            rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
            # Of two with the same tags, the higher build.
            if rank is not None and (best is None or (-rank, build) > best):
                best, chosen = (-rank, build), file
        return chosen


class NodePackage(WireModel):
    """One package of npm at its place, `node_modules/x` or `node_modules/x/node_modules/@scope/y`.

    `os`, `cpu` and `libc` are npm's: names of what it is for, or `!name` of what it is not for. One that is `optional`
    is left out where it does not fit. `integrity` is npm's own, for who fetches it.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    path: Annotated[str, AfterValidator(_npm_path)]
    name: Annotated[str, AfterValidator(_npm_name)]
    version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+-]{1,200}$")]
    file: LockedFile
    os: Annotated[tuple[_NodeWord, ...], Field(max_length=50)] = ()
    cpu: Annotated[tuple[_NodeWord, ...], Field(max_length=50)] = ()
    libc: Annotated[tuple[_NodeWord, ...], Field(max_length=50)] = ()
    optional: StrictBool = False
    integrity: Annotated[str, StringConstraints(pattern=r"^sha512-[A-Za-z0-9+/=]{88}$")] | None = None

    def misfit(self, node: NodePlatform) -> str | None:
        """Why it is not for this Node.js; None if it is."""
        for wanted, has in ((self.os, "linux"), (self.cpu, node.machine), (self.libc, str(node.libc))):
            if not _allows(wanted, has):
                return f"it is for {', '.join(wanted)}, and this is {has}"
        return None


@dataclass(frozen=True, slots=True)
class NoFit:
    """A platform that a lock cannot serve: for which package, and why."""

    package: str
    reason: str

    def __str__(self) -> str:
        return f"{self.package}: {self.reason}"


class Ecosystem(enum.StrEnum):
    """Where a package comes from."""

    PYPI = "pypi"
    NPM = "npm"


class Requirement(WireModel):
    """What somebody asked for, as they wrote it: a name, and a range of versions that may be empty."""

    model_config = ConfigDict(extra="forbid")

    ecosystem: Ecosystem
    text: LongText


class Lock(WireModel):
    """The exact resolution of a set. The order of its packages has no meaning: they are sorted."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    requirements: Annotated[tuple[Requirement, ...], Field(max_length=MAX_PACKAGES)] = ()
    python: Annotated[tuple[PythonPackage, ...], Field(max_length=MAX_PACKAGES)] = ()
    node: Annotated[tuple[NodePackage, ...], Field(max_length=MAX_PACKAGES)] = ()
    requires_python: Annotated[str, StringConstraints(max_length=200), AfterValidator(_specifiers)] | None = (
        None
    )

    @field_validator("python")
    @classmethod
    def _by_name(cls, packages: tuple[PythonPackage, ...]) -> tuple[PythonPackage, ...]:
        # One name may come several times, with markers of which one holds.
        key = [(each.name, each.version, each.marker or "") for each in packages]
        _once(key, "the package")
        return tuple(sorted(packages, key=lambda each: (each.name, each.version, each.marker or "")))

    @field_validator("node")
    @classmethod
    def _by_path(cls, packages: tuple[NodePackage, ...]) -> tuple[NodePackage, ...]:
        _once([each.path.casefold() for each in packages], "the place")
        return tuple(sorted(packages, key=lambda each: each.path))

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        sizes: dict[str, int] = {}
        for file in self._named():
            if sizes.setdefault(file.sha256, file.size) != file.size:
                raise ValueError(f"{file.filename} is named with two sizes")
        return self

    @functools.cached_property
    def hash(self) -> str:
        """What this lock is, as a SHA-256: of its packages, and not of how they were asked for or where they lie."""
        told = self.model_dump(mode="json", by_alias=True, exclude={"requirements"})
        for package in told["python"]:
            for file in package["files"]:
                del file["url"]
        for package in told["node"]:
            del package["file"]["url"]
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(f"ringfence lock 1\n{text}".encode()).hexdigest()

    @property
    def files(self) -> tuple[LockedFile, ...]:
        """The files for all platforms, each once."""
        return _each_once(self._named())

    @property
    def size(self) -> int:
        """How many bytes the files for all platforms have."""
        return sum(file.size for file in self.files)

    def files_for(self, platform: Platform) -> tuple[LockedFile, ...] | NoFit:
        """The files that this platform needs, each once, or what it cannot have.

        A machine without Node.js needs nothing of npm, and one without Python nothing of Python.
        """
        wheels, tarballs = self.wheels_for(platform), self.tarballs_for(platform)
        if isinstance(wheels, NoFit):
            return wheels
        if isinstance(tarballs, NoFit):
            return tarballs
        return _each_once([*(file for _, file in wheels), *(package.file for package in tarballs)])

    def wheels_for(self, platform: Platform) -> tuple[tuple[PythonPackage, LockedFile], ...] | NoFit:
        """The Python packages that this platform needs, and the wheel of each."""
        python = platform.python
        if python is None or not self.python:
            return ()
        if self.requires_python and not python.is_in(SpecifierSet(self.requires_python)):
            return NoFit("python", f"the lock is for Python {self.requires_python}, not {python.version}")
        chosen: dict[str, tuple[PythonPackage, LockedFile]] = {}
        for package in self.python:
            if not package.needed_by(python):
                continue
            if package.name in chosen:
                versions = f"{chosen[package.name][0].version} and {package.version}"
                return NoFit(package.name, f"the lock names two versions for this platform: {versions}")
            file = package.file_for(python)
            if file is None:
                return NoFit(
                    package.name, f"{package.version} has no wheel for this platform ({_told(python)})"
                )
            chosen[package.name] = (package, file)
        return tuple(chosen.values())

    def tarballs_for(self, platform: Platform) -> tuple[NodePackage, ...] | NoFit:
        """The packages of npm that this platform needs."""
        if platform.node is None:
            return ()
        chosen: list[NodePackage] = []
        left_out = "\0"
        for package in self.node:
            if package.path.startswith(f"{left_out}/"):
                continue
            misfit = package.misfit(platform.node)
            if misfit is None:
                chosen.append(package)
            elif not package.optional:
                return NoFit(package.name, f"{package.version} does not fit this platform: {misfit}")
            else:
                left_out = package.path
        return tuple(chosen)

    def _named(self) -> list[LockedFile]:
        return [*(file for each in self.python for file in each.files), *(each.file for each in self.node)]


def _once(keys: list[Any], what: str) -> None:
    for key, count in Counter(keys).items():
        if count > 1:
            named = key if isinstance(key, str) else key[0]
            raise ValueError(f"{what} {named} is named twice")


def _each_once(files: Iterable[LockedFile]) -> tuple[LockedFile, ...]:
    return tuple({file.sha256: file for file in files}.values())


def _allows(wanted: tuple[str, ...], has: str) -> bool:
    """Npm's rule: nothing that is refused, and one of what is named, if anything is named."""
    named = [word for word in wanted if not word.startswith("!")]
    return f"!{has}" not in wanted and (not named or has in named or "any" in named)


@functools.lru_cache(maxsize=64)
def _ranks(python: PythonPlatform) -> dict[Any, int]:
    return {tag: rank for rank, tag in reversed([*enumerate(python.tags)])}


def _told(python: PythonPlatform) -> str:
    return f"{python.implementation} {python.version}, {python.machine}, {python.libc} {python.libc_version}"
