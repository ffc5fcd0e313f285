"""Runs a resolver as an ordinary script in Ringfence's own sandbox, with one door out of it.

Threat: a resolver reads what hostile registries write, and a fault in it could be used; npm could run what a package
brings. Mechanism: the run has a policy of its own, which fails where any layer of it cannot be enforced: no network but
the gateway's port, no files but the system's and the resolver's own, no secrets, a scratch directory, and bounds.
Not covered: a resolver that was made to lie chooses other versions; the files are those of the registries all the same.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from ringfence.sandbox import PolicySnapshot, PolicySource
from ringfence.sandbox.launch.making.scratch import Place, remove_orphans
from ringfence.sandbox.policy import Filesystem, Network, NetworkMode, Resources, SandboxPolicy
from ringfence.sandbox.wrappers.barriers import barrier
from ringfence.sandbox.wrappers.bottom import EVERYBODY
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, run_under

from ringfence_script_packages.packages.errors import PackagesError, Why

TIMEOUT_SECONDS = 300
MIB = 1024 * 1024
COPIES = "ringfence-resolver-"
"""How the names of directories begin in which copies of resolvers are."""


@asynccontextmanager
async def shown(paths: Iterable[str]) -> AsyncIterator[Mapping[str, str]]:
    """Where a run can read each of these: at its own place, or at that of a copy, if only we may go there.

    Programs that root has installed for itself are often in its home. A copy is gone afterwards; what a host leaves
    that is killed goes with the next one that makes copies.
    """
    paths = tuple(paths)
    closed = [path for path in paths if barrier(path, EVERYBODY, EVERYBODY) is not None]
    if not closed:
        yield {path: path for path in paths}
        return
    place = await asyncio.to_thread(_place_for_copies)
    try:
        copies = {path: f"{place.path}/{number}" for number, path in enumerate(closed)}
        for path, copy in copies.items():
            await asyncio.to_thread(_copy, path, copy)
        yield {path: copies.get(path, path) for path in paths}
    finally:
        await asyncio.to_thread(place.close)


def _place_for_copies() -> Place:
    remove_orphans(COPIES)
    # It has another name than those of scripts, which no run is shown.
    return Place(prefix=COPIES)


def moved(path: str, places: Mapping[str, str]) -> str:
    """Where a path is that lies in one of these places."""
    for place, copy in places.items():
        if path == place or path.startswith(f"{place}/"):
            return copy + path.removeprefix(place)
    return path


def _copy(path: str, copy: str) -> None:
    if os.path.isdir(path):
        shutil.copytree(path, copy, symlinks=True)
    else:
        shutil.copy(path, copy)


def policy_for(port: int, paths: Iterable[str]) -> SandboxPolicy:
    """What a resolver may do: reach that port of this machine's loopback, and read its own program."""
    return SandboxPolicy(
        resources=Resources(
            cpu_seconds=TIMEOUT_SECONDS,
            memory_bytes=2048 * MIB,
            max_output_bytes=64 * MIB,
            max_scratch_bytes=1024 * MIB,
        ),
        filesystem=Filesystem(host_paths=tuple(paths)),
        network=Network(mode=NetworkMode.ALLOWLIST, allow=(f"localhost:{port}",)),
    )


async def run_resolver(
    script: str, *, name: str, port: int, paths: Iterable[str], given: str = ""
) -> RunResult:
    """Run a shell script that calls the resolver called `name`.

    Raises:
        PackagesError: if it was not run, or did not come to its own end.
    """
    snapshot = PolicySnapshot(policy_for(port, paths), source=PolicySource.FILE)
    request = ScriptRequest(
        ScriptKind.SHELL, script, stdin=given, timeout_ms=TIMEOUT_SECONDS * 1000, name=name
    )
    result = await run_under(snapshot, request)
    if result.refused:
        reasons = "; ".join(f"{each.layer}: {each.reason}" for each in result.sandbox.downgrades)
        raise PackagesError(
            Why.FAILED,
            f"{name} cannot be run in a sandbox on this host: {reasons}",
            hint="`ringfence doctor` says what to do",
        )
    if result.stopped is not None:
        raise PackagesError(
            Why.TOO_LARGE,
            f"{name} was stopped, as it used more than it may ({result.stopped.value})",
            hint="ask for fewer packages, or narrower ranges of versions",
        )
    return result
