"""Who answers "which packages has this set, here?": one provider per process. Without one, there are no sets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ringfence.sandbox.policy.provider import ProviderAlreadySet
from ringfence.scripts.packages.pins import Pin

DEFAULT_SET = "default"
"""The set of scripts that name none."""

MIB = 1024**2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PackageTree:
    """The packages of a set on this machine: the hash of the lock that it is made from, and a pin for one run.

    Whoever gets it closes the pin.
    """

    set: str
    lock: str
    pin: Pin


@dataclass(frozen=True, slots=True)
class NotReady:
    """A set whose packages are not on this machine, and why: `12 of 40 MiB`, or what keeps them from coming."""

    reason: str

    @classmethod
    def fetching(cls, have: int, wanted: int) -> NotReady:
        """They are under way: so many bytes of so many."""
        return cls(f"{have // MIB} of {-(-wanted // MIB)} MiB")


PackageProvider = Callable[[str], Awaitable[PackageTree | NotReady | None]]
"""Answers for the name of a set: its tree, why that is not there, or None for a set without any packages.

It is asked for each run, so it should answer from memory where it can. Nobody has made `DEFAULT_SET` at first: that one
has no packages then. Any other set that does not exist is not ready, with that reason.
"""

_provider: PackageProvider | None = None


def set_package_provider(provider: PackageProvider) -> None:
    """Make `provider` the one that answers in this process.

    Raises:
        ProviderAlreadySet: if there is one already; call `clear_package_provider` when its owner shuts down.
    """
    global _provider
    if _provider is not None:
        raise ProviderAlreadySet(
            f"a package provider is already registered ({_provider!r}); clear it with clear_package_provider() first"
        )
    _provider = provider


def clear_package_provider() -> None:
    """Forget the provider: from now on there are no sets. Does nothing if there is none."""
    global _provider
    _provider = None


async def package_tree(name: str) -> PackageTree | NotReady | None:
    """The packages of a set here. Never raises: a provider that does is a reason why they are not ready."""
    provider = _provider
    if provider is None:
        return None if name == DEFAULT_SET else NotReady(f"nothing here provides the set {name}")
    try:
        return await provider(name)
    except Exception as error:
        logger.warning("the package provider failed", exc_info=error)
        return NotReady(f"the package provider failed: {type(error).__name__}")
