"""How this host lays out its programs, and what of its `/etc` they look for.

Threat: with the directories of `/etc` that programs need, something comes into a run that is not everybody's: a
certificate's key beside the certificates, a keystore of a Java machine. By uid alone it would be closed to runs that
have another uid than its owner, and open to a run that has the supervisor's own. Mechanism: what in them is not
readable for everybody is told, each file by itself, and covered in every room. Not covered: what is put there, or
closed to others, after the machine was last probed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ringfence.sandbox.capabilities.model import SystemLayout

MERGED_DIRECTORIES = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Top directories of programs and libraries; links into `/usr` on most systems of today."""

ETC = ("alternatives", "crypto-policies", "java-*", "pki/ca-trust/extracted", "pki/tls/certs", "ssl/certs")
"""The directories of `/etc` that programs look into: where links of `/usr/bin` lead, what a Java machine is set up by,
which ciphers and which authorities are trusted."""


def system_layout(root: Path = Path("/")) -> SystemLayout:
    """Which top directories are links, which are directories, and which parts of `/etc` programs look for."""
    links, directories = [], []
    for name in MERGED_DIRECTORIES:
        path = root / name
        if path.is_symlink():
            links.append((f"/{name}", os.readlink(path)))
        elif path.is_dir():
            directories.append(f"/{name}")
    etc = sorted(str(path) for each in ETC for path in (root / "etc").glob(each) if path.is_dir())
    return SystemLayout(tuple(links), tuple(directories), tuple(etc), *_not_everybodys(etc))


def _not_everybodys(tops: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files and the directories within these that not everybody may read."""
    found = [*map(_closed, tops)]
    return tuple(p for files, _ in found for p in files), tuple(p for _, closed in found for p in closed)


def _closed(top: str) -> tuple[list[str], list[str]]:
    files: list[str] = []
    directories: list[str] = []
    for directory, within, names in os.walk(top):
        closed = [
            name for name in within if not _everybody(f"{directory}/{name}", stat.S_IROTH | stat.S_IXOTH)
        ]
        directories += [f"{directory}/{name}" for name in closed]
        within[:] = [name for name in within if name not in closed]
        files += [
            f"{directory}/{name}" for name in names if not _everybody(f"{directory}/{name}", stat.S_IROTH)
        ]
    return files, directories


def _everybody(path: str, wanted: int) -> bool:
    """Whether everybody may; a link is nobody's, and what it leads to is judged where that is."""
    with contextlib.suppress(OSError):
        mode = os.lstat(path).st_mode
        return stat.S_ISLNK(mode) or mode & wanted == wanted
    return True
