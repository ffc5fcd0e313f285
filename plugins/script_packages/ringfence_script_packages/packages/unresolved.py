"""What stands in for a registry where there is none: it can say only that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ringfence.scripts.packages.lock import Lock, LockedFile, Requirement
from ringfence.scripts.packages.platform import Platform

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.ports import Progress


class NoRegistry:
    """A `Resolver` and a `Fetcher` of an instance that can ask no registry."""

    async def resolve(
        self, requirements: Sequence[Requirement], platforms: Sequence[Platform], progress: Progress
    ) -> Lock:
        """See `Resolver`."""
        raise _none()

    async def fetch(self, file: LockedFile) -> AsyncIterator[bytes]:
        """See `Fetcher`."""
        raise _none()
        yield b""


def _none() -> PackagesError:
    return PackagesError(
        Why.UNREACHABLE,
        "this host can ask no registry",
        hint="Carry the set here from another host: `ringfence packages export` and `import`.",
    )
