"""What of a machine decides which files of a lock fit it: asked of the interpreters that scripts are run with.

Our own interpreter may be another one, so nothing here looks at it. What is asked for are plain facts, and small: which
wheels fit is worked out from them on any machine, so that a host can do it for a satellite.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Annotated, TypeVar

from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.version import Version
from pydantic import AfterValidator, ConfigDict, StrictBool, StringConstraints, ValidationError

from ringfence.refusals import in_words
from ringfence.sandbox.capabilities import found
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.processes.attempts import attempt
from ringfence.sandbox.wire import WireModel

OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
"""The oldest glibc 2 that wheels are made for; 17 on other machines (PEP 513 and PEP 599)."""

NEWEST_LIBC = 200
"""No minor version of a libc is higher, whatever a satellite says."""

_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""The names that some glibc versions had before PEP 600."""


class Libc(enum.StrEnum):
    """The C library of an interpreter."""

    GLIBC = "glibc"
    MUSL = "musl"


def _version(text: str) -> str:
    match = re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}(?:(?:a|b|rc)[0-9]{1,4})?\+?", text)
    if match is None:
        raise ValueError("must be a version, such as 3.11.7")
    return text


_Part = TypeVar("_Part", bound=WireModel)
_Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,40}$")]
_Version = Annotated[str, StringConstraints(max_length=30), AfterValidator(_version)]


class PythonPlatform(WireModel):
    """The Python that scripts are run with: the name of its kind, its version, machine and C library.

    `free_threaded` is a Python without a global lock, which takes other wheels.
    """

    model_config = ConfigDict(extra="ignore")

    implementation: _Word
    version: _Version
    free_threaded: StrictBool = False
    machine: _Word
    libc: Libc
    libc_version: _Version

    @property
    def minor(self) -> tuple[int, int]:
        """The version that wheels name, as (3, 11)."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(re.match(r"[0-9]+", minor)[0])  # type: ignore[index]

    def is_in(self, versions: SpecifierSet) -> bool:
        """Whether its version is in a range."""
        return versions.contains(self.version.rstrip("+"), prereleases=True)

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The tags of the wheels that fit, the best first. Another Python than CPython takes those of pure Python."""
        return _tags(self)

    @property
    def markers(self) -> dict[str, str]:
        """What markers of requirements are asked about (PEP 508). The kernel's own version is nobody's business."""
        named = {"cpython": "CPython", "pypy": "PyPy"}
        return {
            "implementation_name": self.implementation,
            "implementation_version": self.version,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": named.get(self.implementation, self.implementation),
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.version,
            "python_version": ".".join(map(str, self.minor)),
            "sys_platform": "linux",
            "extra": "",
        }


class NodePlatform(WireModel):
    """The Node.js that scripts are run with: its version, that of its binary interface, its machine and C library."""

    model_config = ConfigDict(extra="ignore")

    version: _Version
    abi: _Word
    machine: _Word
    libc: Libc


class Platform(WireModel):
    """What runs scripts on a machine. A part is None where there is no such interpreter."""

    model_config = ConfigDict(extra="ignore")

    python: PythonPlatform | None = None
    node: NodePlatform | None = None

    @property
    def key(self) -> str:
        """A hash that is the same for the same platform, on every machine."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def of(cls, capabilities: Capabilities) -> Platform:
        """Ask the interpreters that this machine runs scripts with. It starts them: not for an event loop.

        Raises:
            Unavailable: if one that was found does not answer, or not what can be understood.
        """
        drop = capabilities.identity_drop
        target = drop.given if isinstance(drop, found.IdentityDrop) else None
        python = node = None
        if isinstance(capabilities.python, found.Python):
            program = capabilities.python.path
            answer = attempt([program, "-I", "-S", "-c", _ASK_PYTHON], target)
            python = _read(PythonPlatform, program, answer)
        if isinstance(capabilities.node, found.Node):
            program = capabilities.node.path
            node = _read(NodePlatform, program, attempt([program, "-e", _ASK_NODE], target))
        return cls(python=python, node=node)


def _read(kind: type[_Part], program: str, answer: str) -> _Part:
    try:
        return kind.model_validate_json(answer)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Unavailable(f"{program} tells what is not understood: {where}: {in_words(first)}") from error


@functools.lru_cache(maxsize=64)
def _tags(python: PythonPlatform) -> tuple[Tag, ...]:
    platforms = [*_platforms(python)]
    version = python.minor
    own = f"cp{version[0]}{version[1]}"
    if python.implementation != "cpython":
        return tuple(compatible_tags(version, None, platforms))
    abi = f"{own}t" if python.free_threaded else own
    return (*cpython_tags(version, [abi], platforms), *compatible_tags(version, own, platforms))


def _platforms(python: PythonPlatform) -> Iterator[str]:
    """The platforms that wheels name which fit, the best first (PEP 600 and PEP 656)."""
    yield f"linux_{python.machine}"
    version = Version(python.libc_version.rstrip("+"))
    newest = min(version.minor, NEWEST_LIBC)
    if python.libc is Libc.MUSL:
        for minor in range(newest, -1, -1):
            yield f"musllinux_{version.major}_{minor}_{python.machine}"
    elif version.major == 2:
        for minor in range(newest, OLDEST_GLIBC.get(python.machine, 17) - 1, -1):
            yield f"manylinux_2_{minor}_{python.machine}"
            if minor in _LEGACY:
                yield f"{_LEGACY[minor]}_{python.machine}"


_ASK_PYTHON = r"""
import json, os, re, subprocess, sys, sysconfig

machine = os.uname().machine
if sys.maxsize < 2**32:
    machine = {"x86_64": "i686", "aarch64": "armv7l", "armv8l": "armv7l"}.get(machine, machine)
try:
    libc, libc_version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
except (AttributeError, ValueError, OSError):
    # musl tells its version when its loader is called by name.
    with open("/proc/self/maps") as maps:
        loader = re.search(r"/\S*/ld-musl-\S+", maps.read())
    said = subprocess.run([loader[0]], stderr=subprocess.PIPE, text=True).stderr if loader else ""
    found = re.search(r"Version (\d+\.\d+)", said)
    libc, libc_version = "musl", found[1] if found else ""
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": sys.version.split()[0],
    "freeThreaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "machine": machine,
    "libc": libc,
    "libcVersion": libc_version,
}))
"""

_ASK_NODE = r"""
const report = process.report && process.report.getReport().header;
console.log(JSON.stringify({
  version: process.versions.node,
  abi: process.versions.modules,
  machine: process.arch,
  libc: !report || report.glibcVersionRuntime ? "glibc" : "musl",
}));
"""
