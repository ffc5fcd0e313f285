"""Give a run's network namespace its link, when its filter is known to be loaded, and take it away at the end."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from ringfence.sandbox.egress.link.interface import attach_macvlan
from ringfence.sandbox.egress.link.program import LinkFailed
from ringfence.sandbox.egress.link.stack import attach_stack
from ringfence.sandbox.egress.plan import EgressPlan, Macvlan, Plumbing
from ringfence.sandbox.faults import is_passing
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.processes.spawner import SpawnFailed

ATTACH_TIMEOUT_S = 10.0


class Attachment(Protocol):
    """A link that is there. Whoever attached it closes it, when the script is gone or not wanted any more."""

    @property
    def ended(self) -> str | None:
        """Why the link is gone before its time (in the stack's own words), or None while it works."""

    async def close(self) -> None:
        """Take the link away; returns when what served it has ended."""


async def attach(plan: EgressPlan, pid: int, owner: Identity | Lease) -> Attachment:
    """Make the planned link for the network namespace of `pid`, the process of `owner` that came through the gate.

    Call it only when the wrapper has told that it runs: that is what says that the filter is loaded. `pid`
    must not have been reaped, so that it cannot name another process.

    Raises:
        LinkFailed: if there is no link.
    """
    if _namespace("self") == _namespace(str(pid)):
        raise LinkFailed("the run is not in a network namespace of its own")
    try:
        async with asyncio.timeout(ATTACH_TIMEOUT_S):
            return await _attach(plan.plumbing, pid, owner)
    except TimeoutError:
        reason = f"{plan.plumbing.name} was not ready after {ATTACH_TIMEOUT_S:.0f} s"
        raise LinkFailed(reason, passing=True) from None
    except (OSError, SpawnFailed) as error:
        raise LinkFailed(f"{plan.plumbing.name}: {error}", passing=is_passing(error)) from error


async def _attach(plumbing: Plumbing, pid: int, owner: Identity | Lease) -> Attachment:
    if isinstance(plumbing, Macvlan):
        return await attach_macvlan(plumbing, pid)
    return await attach_stack(plumbing, pid, owner)


def _namespace(pid: str) -> tuple[int, int]:
    try:
        found = os.stat(f"/proc/{pid}/ns/net")
    except OSError as error:
        raise LinkFailed(f"the run ended before it had its link: {error.strerror}") from error
    return found.st_dev, found.st_ino
