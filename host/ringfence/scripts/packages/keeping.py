"""Having on this machine the trees of the sets that are wanted here, and answering for them to runs.

Threat: a set changes, or its files come slowly, in pieces, or not at all, and a run imports from half of it, or from
another set than its result says. Mechanism: a set's tree is taken into use when it is whole, at once for the runs that
come after; until then they have the one before, and a result names the lock that it really had. A lock is believed by
its hash, and a file by its own. What is in use is written down, so that a machine that starts without its host goes on
with that. Not covered: whether what the source wants here is what an administrator wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.errors import DoesNotFitError, PackagesError
from ringfence.scripts.packages.lock import Lock, LockedFile, NoFit
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.provider import DEFAULT_SET, NotReady, PackageTree
from ringfence.scripts.packages.trees import Trees, tree_key

GRACE_S, FILES_GRACE_S = 24 * 3600.0, 3600.0
"""So long a tree is kept that no set has any more, and a file of which the trees are made."""

AGAIN_S, AT_MOST_S, NOW_AND_THEN_S = 2.0, 300.0, 3600.0
"""The pause after something failed, which doubles up to the second (or `at_most_s`); how often all is looked at."""

UNKNOWN_PLATFORM = "an interpreter of this machine does not say what it is"

logger = logging.getLogger(__name__)


class PackageSource(Protocol):
    """Where locks and files come from: a host's own database, or for a satellite its host."""

    async def lock(self, hash: str) -> Lock:
        """The lock of that hash. It may raise whatever keeps it from coming."""

    def blob(self, file: LockedFile, *, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a file from `offset` on."""


class SetState(enum.StrEnum):
    """How far a set is here."""

    PENDING = "pending"
    SYNCING = "syncing"
    READY = "ready"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class SetStatus:
    """How far a set is here: the lock that is wanted, so many bytes of its files of so many, and what went wrong."""

    lock: str
    state: SetState = SetState.PENDING
    have: int = 0
    wanted: int = 0
    error: str | None = None


class KeptTrees:
    """The trees of the wanted sets, in one directory, for one process. `run` keeps them, `provide` answers for them.

    `told` is called with the name of a set and its status whenever that changes; it must not wait, nor raise.
    """

    def __init__(
        self,
        directory: Path,
        source: PackageSource,
        platform: Callable[[], Awaitable[Platform | None]],
        *,
        told: Callable[[str, SetStatus], None] = lambda *_: None,
        grace_s: float = GRACE_S,
        at_most_s: float = AT_MOST_S,
    ) -> None:
        self._directory = directory
        self._source = source
        self._platform = platform
        self._told = told
        self._grace_s = grace_s
        self._at_most_s = at_most_s
        self._blobs = BlobDirectory(directory / "blobs")
        self._trees = Trees(directory, self._blobs)
        self._wanted: dict[str, str] | None = None
        self._used = _read(directory / "sets.json")
        self._empty: set[str] = set()
        """Locks without any package, of which there is no tree."""
        self._status: dict[str, SetStatus] = {}
        self._wake = asyncio.Event()

    @property
    def status(self) -> Mapping[str, SetStatus]:
        """How far each wanted set is."""
        return self._status

    @property
    def knows_sets(self) -> bool:
        """Whether somebody has said what is wanted, now or before this process."""
        return self._wanted is not None or bool(self._used)

    def want(self, sets: Mapping[str, str]) -> None:
        """Have these sets from now on, by name the hash of the lock; nothing for a machine that has none."""
        self._wanted = dict(sets)
        self._status = {
            name: held if (held := self._status.get(name)) and held.lock == lock else SetStatus(lock)
            for name, lock in sets.items()
        }
        self._wake.set()

    async def provide(self, name: str) -> PackageTree | NotReady | None:
        """Answer for a set; see `provider.PackageProvider`."""
        if self._wanted is not None and name not in self._wanted:
            return None if name == DEFAULT_SET else NotReady(f"there is no set {name} here")
        platform = await self._platform()
        if platform is None:
            return NotReady(UNKNOWN_PLATFORM)
        wanted = (self._wanted or {}).get(name)
        # What was made first is taken: the new lock, once its tree is whole, or else the one before.
        for lock in dict.fromkeys(filter(None, (wanted, self._used.get(name)))):
            if lock in self._empty:
                return None
            if (pin := self._trees.pin(lock, platform)) is not None:
                return PackageTree(name, lock, pin)
        if self._wanted is None:
            return NotReady("it is not known yet which packages there are")
        status = self._status[name]
        return (
            NotReady.fetching(status.have, status.wanted) if status.error is None else NotReady(status.error)
        )

    async def run(self) -> None:
        """Keep the trees, until this is cancelled."""
        pause = AGAIN_S
        while True:
            self._wake.clear()
            whole = await self.reconcile()
            pause = AGAIN_S if whole else min(pause * 2, self._at_most_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), NOW_AND_THEN_S if whole else pause)
                pause = AGAIN_S

    async def reconcile(self) -> bool:
        """Make what is missing, and remove what nobody wants any more. Whether all that is wanted is there."""
        if self._wanted is None:
            return True
        platform = await self._platform()
        for name, lock in sorted(self._wanted.items()):
            if self._wanted.get(name) != lock:
                continue  # Something else is wanted meanwhile.
            await self._have(name, lock, platform)
        whole = all(status.state is SetState.READY for status in self._status.values())
        if platform is not None:
            await self._collect(platform, whole=whole)
        return whole

    async def _have(self, name: str, lock: str, platform: Platform | None) -> None:
        try:
            if platform is None:
                raise DoesNotFitError(UNKNOWN_PLATFORM)
            if lock not in self._empty and tree_key(lock, platform) not in self._trees.made():
                await self._make(name, lock, platform)
        except (PackagesError, OSError) as error:
            is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = f"; make room on the disk of {self._directory}" if is_full else ""
            self._tell(name, lock, state=SetState.ERROR, error=f"{error}{remedy}")
        except Exception as error:
            logger.warning("packages do not come", exc_info=error)
            self._tell(name, lock, state=SetState.ERROR, error=f"they do not come: {type(error).__name__}")
        else:
            if self._used.get(name) != lock:
                self._used[name] = lock
                await asyncio.to_thread(_write, self._directory / "sets.json", dict(self._used))
            self._tell(name, lock, state=SetState.READY, error=None)

    async def _make(self, name: str, hash: str, platform: Platform) -> None:
        lock = await self._source.lock(hash)
        if lock.hash != hash:
            raise PackagesError("another lock has come than the one that was asked for")
        if not lock.python and not lock.node:
            self._empty.add(hash)
            return
        files = lock.files_for(platform)
        if isinstance(files, NoFit):
            raise DoesNotFitError(str(files))
        total = sum(file.size for file in files)
        missing = self._blobs.missing(files)
        have = total - sum(file.size for file in missing)
        self._tell(name, hash, state=SetState.SYNCING, have=have, wanted=total, error=None)
        for file in missing:
            async with contextlib.AsyncExitStack() as stack:
                # Another process may be receiving it: that one is waited for, elsewhere.
                arriving = await asyncio.to_thread(stack.enter_context, self._blobs.receiving(file))
                if not arriving.whole:
                    async for piece in self._source.blob(file, offset=arriving.size):
                        await asyncio.to_thread(arriving.write, piece)
                        self._tell(name, hash, have=have + arriving.size)
                    await asyncio.to_thread(arriving.finish)
                have += file.size
        await asyncio.to_thread(self._trees.make, lock, platform)

    async def _collect(self, platform: Platform, *, whole: bool) -> None:
        wanted = self._wanted or {}
        if whole and self._used != wanted:
            # What a set had before is nobody's any more.
            self._used = dict(wanted)
            await asyncio.to_thread(_write, self._directory / "sets.json", dict(wanted))
        keys = {tree_key(lock, platform) for lock in (*wanted.values(), *self._used.values())}
        await asyncio.to_thread(self._trees.collect, keys, self._grace_s)
        if whole:
            # Trees are made of them, and then do not need them.
            await asyncio.to_thread(self._blobs.collect, (), min(self._grace_s, FILES_GRACE_S))

    def _tell(self, name: str, lock: str, **changed: object) -> None:
        """Note how far a set is, unless another lock is wanted of it meanwhile."""
        status = self._status.get(name)
        if status is None or status.lock != lock:
            return
        now = replace(status, **changed)  # type: ignore[arg-type]
        if now != status:
            self._status[name] = now
            self._told(name, now)


def _read(path: Path) -> dict[str, str]:
    """What was in use when this process ended last; nothing if that cannot be read."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return (
        {name: lock for name, lock in told.items() if isinstance(lock, str)} if isinstance(told, dict) else {}
    )


def _write(path: Path, sets: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # What a crash leaves of it is written over.
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("w") as file:
        json.dump(sets, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
