"""The packages of this satellite, as its connection and its runs see them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog
from ringfence.bounded import cleaned
from ringfence.redaction import describe
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.faults import Unavailable
from ringfence.scripts import NotReady, PackageTree
from ringfence.scripts.packages.keeping import KeptTrees, SetState, SetStatus
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.reach import barred

from ringfence_satellite.agent.packages.fetching import HostPackages
from ringfence_satellite.protocol import JsonObject, ScriptPackagePiece, ScriptPackageSyncState

REPORT_SECONDS = 1.0
"""How often the host is told how far packages are."""
AGAIN_SECONDS = 60.0
"""The pause after the packages cannot be kept, because the disk is full or the like."""
_log = structlog.get_logger("ringfence.satellite.agent")

Send = Callable[[str], Awaitable[bool]]


class Packages:
    """Has the sets that the host wants here, tells it how far they are, and answers for them to runs."""

    def __init__(self, directory: Path, platform: Platform | None, *, other_user: bool = False) -> None:
        self._directory = directory
        self._platform = platform
        self._other_user = other_user
        self._barred: str | None = None
        self._source = HostPackages()
        self._kept = KeptTrees(directory, self._source, self._get_platform, told=self._told)
        self._changed = asyncio.Event()

    @property
    def platform(self) -> JsonObject | None:
        """What is told to the host of this machine."""
        return None if self._platform is None else self._platform.model_dump(mode="json", by_alias=True)

    async def provide(self, name: str) -> PackageTree | NotReady | None:
        """Answer for a set; see `ringfence.scripts.set_package_provider`."""
        found = await self._kept.provide(name)
        if found is None or self._barred is None:
            return found
        if isinstance(found, PackageTree):
            found.pin.close()
        return NotReady(self._barred)

    def want(self, sets: Mapping[str, str]) -> None:
        """Have these sets from now on. What is missing is looked for again, also if they are the same."""
        self._kept.want(sets)
        self._changed.set()

    def want_nothing_unless_kept(self) -> None:
        """A host that knows nothing of packages has let this satellite in: what was here before stays."""
        if not self._kept.knows_sets:
            self.want({})

    def answered(self, frame: ScriptPackagePiece) -> None:
        """The host has sent a piece."""
        self._source.answered(frame)

    @contextmanager
    def connected(self, send: Send) -> Iterator[None]:
        """Fetch what is missing over this connection while the block runs."""
        with self._source.connected(send):
            yield

    async def keep(self) -> None:
        """Keep the sets, until this is cancelled."""
        while True:
            try:
                await asyncio.to_thread(self._prepare)
                self._changed.set()
                if self._barred is None:
                    await self._kept.run()
            except Exception as error:
                _log.error("packages cannot be kept here; trying again", error=describe(error))
            await asyncio.sleep(AGAIN_SECONDS)

    async def tell(self, send: Send) -> None:
        """Tell the host how far the sets are, and whenever that has changed; until the connection has gone."""
        told: dict[str, SetStatus] = {}
        while True:
            self._changed.clear()
            for name, found in [*self._kept.status.items()]:
                status = self._status(found)
                if told.get(name) != status:
                    if not await send(_frame(name, status).encode()):
                        return
                    told[name] = status
                    # Many sets are no reason to say more than a satellite may.
                    await asyncio.sleep(REPORT_SECONDS / 10)
            await self._changed.wait()
            await asyncio.sleep(REPORT_SECONDS / 2)

    def _prepare(self) -> None:
        """Make the directory, and look whether runs can reach it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        self._barred = (
            barred(self._directory, otherwise="give the agent another --state-dir")
            if self._other_user
            else None
        )
        if self._barred is not None:
            _log.error("scripts here cannot have packages", reason=self._barred)

    def _status(self, status: SetStatus) -> SetStatus:
        return status if self._barred is None else replace(status, state=SetState.ERROR, error=self._barred)

    async def _get_platform(self) -> Platform | None:
        return self._platform

    def _told(self, name: str, status: SetStatus) -> None:
        del name, status
        self._changed.set()


def platform_of(capabilities: Capabilities) -> Platform | None:
    """What this machine runs scripts with. It starts the interpreters: not for an event loop."""
    try:
        return Platform.of(capabilities)
    except Unavailable as error:
        _log.warning("this machine can have no packages", error=describe(error))
        return None


def _frame(name: str, status: SetStatus) -> ScriptPackageSyncState:
    return ScriptPackageSyncState(
        set=name,
        lock=status.lock,
        state=status.state.value,
        bytes=status.have,
        total=status.wanted,
        error=None if status.error is None else cleaned(status.error, 2000),
    )
