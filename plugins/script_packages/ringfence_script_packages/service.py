"""What script-packages offers to other plugins: the sandbox policy that holds now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ringfence.sandbox.policy import DEFAULT_POLICY, ReceivedPolicy, receive


@dataclass(frozen=True)
class PolicyState:
    """One revision of the policy. Revision 0 is the shipped default, which nobody has written.

    `wire` is the policy just as it was written, which is what satellites are sent.
    """

    wire: Mapping[str, Any]
    revision: int
    updated_at: dt.datetime | None
    updated_by: str | None

    @classmethod
    def shipped(cls) -> PolicyState:
        """The shipped default, as revision 0."""
        return cls(DEFAULT_POLICY.to_wire(), 0, None, None)

    @cached_property
    def received(self) -> ReceivedPolicy:
        """The policy as this release understands it, with what it does not understand named."""
        return receive(dict(self.wire))


class SandboxPolicyService(Protocol):
    """Answers which sandbox policy holds. There is one, for all."""

    async def current(self) -> PolicyState:
        """The policy that holds now: from this instance's copy while that is known to be fresh, else from the database.

        Raises what the database raises, and `TimeoutError`. Whoever gets no answer must be fail-closed.
        """

    async def stored(self) -> PolicyState:
        """The policy as the database has it, whatever this instance has heard before.

        It is read after this was asked, and so the way to find out that the database was set back.

        Raises what the database raises, and `TimeoutError`.
        """
