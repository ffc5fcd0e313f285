"""What this instance last found when it verified the policy's history, for pages that are looked at often."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass

from ringfence.eventlog import Anchor

from ringfence_script_packages.policy_store import PolicyVerification, SandboxPolicies

OLD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found, and when."""

    found: PolicyVerification
    at: dt.datetime

    @property
    def problem(self) -> str | None:
        """What does not fit, in a sentence; None if all is as it was written."""
        if self.found.what is None:
            return None
        where = "The stored policy" if self.found.revision is None else f"Revision {self.found.revision}"
        return f"{where} {self.found.what}."


class Verifying:
    """Verifies, and remembers the last answer; many who ask at once wait for one."""

    def __init__(self, policies: SandboxPolicies) -> None:
        self._policies = policies
        self._lock = asyncio.Lock()
        self.last: Verified | None = None

    async def now(self, anchor: Anchor | None = None) -> Verified:
        """Verify. With an anchor, the answer is about that too, and is not remembered."""
        found = Verified(await self._policies.verify(anchor), dt.datetime.now(dt.UTC))
        if anchor is None:
            self.last = found
        return found

    async def lately(self) -> Verified:
        """What was found within the last minute."""
        async with self._lock:
            age = None if self.last is None else (dt.datetime.now(dt.UTC) - self.last.at).total_seconds()
            if self.last is not None and age is not None and 0 <= age < OLD_SECONDS:
                return self.last
            return await self.now()
