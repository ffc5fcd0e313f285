"""Who answers "which policy now?": one provider per process, and the fail-closed profile without one."""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ringfence.sandbox.hashing import hashed_once
from ringfence.sandbox.policy import DEFAULT_POLICY, FAIL_CLOSED_POLICY, SandboxPolicy

logger = logging.getLogger(__name__)


class PolicySource(enum.StrEnum):
    """Where a policy came from."""

    STORED = "stored"
    DEFAULT = "default"
    FAIL_CLOSED = "fail-closed"
    FILE = "file"


@hashed_once
@dataclass(frozen=True)
class PolicySnapshot:
    """The policy that holds for one run, and where it came from.

    `revision` is None where the policy has none (a file, the fail-closed profile). `reason` says why the
    policy is not the one that an admin wrote. `not_understood` names what a newer sender asked for and this
    program does not know (dotted paths): each is a layer that cannot be enforced.
    """

    policy: SandboxPolicy
    revision: int | None = None
    source: PolicySource = PolicySource.STORED
    reason: str | None = None
    not_understood: tuple[str, ...] = ()

    @classmethod
    def default(cls) -> PolicySnapshot:
        """The shipped default, as revision 0: nobody has written a policy yet."""
        return cls(DEFAULT_POLICY, revision=0, source=PolicySource.DEFAULT)

    @classmethod
    def fail_closed(cls, reason: str) -> PolicySnapshot:
        """The profile for when the policy cannot be known, and why it can't."""
        return cls(FAIL_CLOSED_POLICY, source=PolicySource.FAIL_CLOSED, reason=reason)


PolicyProvider = Callable[[], Awaitable[PolicySnapshot]]
"""Answers which policy holds now; asked once per run, so it should answer from memory where it can."""


class ProviderAlreadySet(RuntimeError):
    """A second provider was registered; one policy governs a process, so there is no second opinion."""


_provider: PolicyProvider | None = None


def set_policy_provider(provider: PolicyProvider) -> None:
    """Make `provider` the one that answers in this process.

    Raises:
        ProviderAlreadySet: if there is one already; call `clear_policy_provider` when its owner shuts down.
    """
    global _provider
    if _provider is not None:
        raise ProviderAlreadySet(
            f"a policy provider is already registered ({_provider!r}); clear it with clear_policy_provider() first"
        )
    _provider = provider


def clear_policy_provider() -> None:
    """Forget the provider: from now on runs are fail-closed. Does nothing if there is none."""
    global _provider
    _provider = None


async def current_policy() -> PolicySnapshot:
    """The policy that holds now. Never raises: without an answer it is fail-closed, and says why."""
    provider = _provider
    if provider is None:
        return PolicySnapshot.fail_closed("no policy provider is registered in this process")
    try:
        return await provider()
    except Exception as error:
        logger.warning("the policy provider failed; runs are fail-closed", exc_info=error)
        return PolicySnapshot.fail_closed(f"the policy provider failed: {type(error).__name__}: {error}")
