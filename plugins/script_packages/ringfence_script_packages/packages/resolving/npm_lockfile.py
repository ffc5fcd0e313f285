"""The lock that there is already, as npm reads it: so that what fits still stays as it is.

Our locks do not hold what a package needs in turn, without which npm would take all of that for superfluous; so the
registry is asked for it again. What it has no more, or has otherwise now, is left out, and npm finds a place for it.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ringfence.scripts.packages.lock import NodePackage

from ringfence_script_packages.packages.errors import PackagesError

AT_ONCE = 8
_NEEDED = (
    "dependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "engines",
    "bin",
    "hasInstallScript",
)
"""What `package-lock.json` has of a package's own manifest."""

_BRINGS_OTHERS = ("bundleDependencies", "bundledDependencies", "_hasShrinkwrap")
"""Such a package has others within its file, of which our locks have nothing."""


async def package_lock(
    packages: Sequence[NodePackage], page: Callable[[str], Awaitable[bytes]]
) -> dict[str, Any] | None:
    """A `package-lock.json` (version 3) of these packages; None if there is nothing in it. `page` asks the registry."""
    free = asyncio.Semaphore(AT_ONCE)

    async def told(name: str) -> Mapping[str, Any]:
        async with free:
            try:
                return await asyncio.to_thread(_versions, await page(name))
            except PackagesError:
                return {}

    names = sorted({each.name for each in packages})
    versions = dict(zip(names, await asyncio.gather(*map(told, names)), strict=True))
    entries = _entries(packages, versions)
    # Nothing is said of what is asked for: npm then looks anew what is for whom.
    return {"lockfileVersion": 3, "requires": True, "packages": {"": {}, **entries}} if entries else None


def _versions(page: bytes) -> Mapping[str, Any]:
    versions: Mapping[str, Any] = json.loads(page)["versions"]
    return versions


def _entries(
    packages: Sequence[NodePackage], versions: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    left_out = "\0"
    for each in sorted(packages, key=lambda one: one.path):
        if each.path.startswith(f"{left_out}/"):
            continue
        manifest = versions[each.name].get(each.version)
        hashes = "" if manifest is None else _hashes(manifest["dist"])
        is_same = hashes and (each.integrity is None or each.integrity in hashes.split())
        if manifest is None or not is_same or any(manifest.get(key) for key in _BRINGS_OTHERS):
            left_out = each.path
            continue
        entries[each.path] = {
            "version": each.version,
            "resolved": manifest["dist"]["tarball"],
            "integrity": hashes,
            **({"name": each.name} if each.path.rpartition("node_modules/")[2] != each.name else {}),
            **{key: manifest[key] for key in _NEEDED if manifest.get(key)},
        }
    return entries


def _hashes(dist: Mapping[str, Any]) -> str:
    """What the registry says that a file hashes to, as npm has it; nothing if it does not say."""
    if dist.get("integrity"):
        return str(dist["integrity"])
    try:
        return f"sha1-{base64.b64encode(bytes.fromhex(dist['shasum'])).decode()}"
    except (KeyError, ValueError, TypeError):
        return ""
