"""What script-packages offers to other plugins: the policy, a say before another one holds, and the packages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ringfence.declaring import Work
from ringfence.sandbox.plan.outlook import Fate
from ringfence.sandbox.policy import DEFAULT_POLICY, ReceivedPolicy, SandboxPolicy, receive
from ringfence.scripts import ScriptRequest
from ringfence.scripts.packages.platform import Platform

from ringfence_script_packages.packages.errors import (
    BlobError,
    NoBlobError,
    PackagesError,
    Why,
    WrongBlobError,
)
from ringfence_script_packages.packages.ports import (
    BlobStore,
    Held,
    HeldSet,
    OfferedLock,
    PackageHolder,
    PackageUser,
    StoredBlob,
)

__all__ = [
    "BlobError",
    "BlobStore",
    "Fate",
    "Held",
    "HeldSet",
    "NoBlobError",
    "OfferedLock",
    "PackageHolder",
    "PackageUser",
    "PackagesError",
    "PolicyPreviewer",
    "PolicyState",
    "ProposedPolicy",
    "Prospect",
    "Prospects",
    "SandboxPolicyService",
    "ScriptPackages",
    "ScriptSets",
    "StoredBlob",
    "Why",
    "WrongBlobError",
]


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


class ScriptSets(Protocol):
    """The sets of scripts that say themselves what they import."""

    async def of(
        self, script: ScriptRequest | None, *, named: str | None = None, by: str | None = None
    ) -> str | None:
        """The set that a script imports from: the one that is `named`, or, in Python, what its text says (PEP 723).

        None for one that says nothing, and for a command. A set of its text is made and installed if there is none, on
        behalf of `by`; where that is None, it has to be there.

        Raises:
            PackagesError: if something that it imports is not allowed, there is no such set, both are given, no machine
                has its Python, or what it says cannot be understood.
        """

    def joined(self, work: Work) -> ScriptSets:
        """The same within the transaction of `work`: a set that is made is there if that commits."""


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


class ScriptPackages(Protocol):
    """The packages that scripts may import, for whoever brings them to other machines."""

    async def current(self) -> Mapping[str, str]:
        """The hash of the lock of each set that has one."""

    async def lock(self, hash: str) -> OfferedLock | None:
        """The lock of that hash, as it is sent."""

    async def piece(self, sha256: str, *, offset: int, length: int) -> bytes:
        """A piece of a file from an offset on, which may be shorter than was asked for, and is not checked.

        Raises:
            BlobError: if there is none.
        """

    async def seen(self, platform: Platform) -> None:
        """Have what this platform needs fetched."""


@dataclass(frozen=True, slots=True)
class ProposedPolicy:
    """A change of the policy that somebody thinks about: how it is now, and how it would be."""

    before: SandboxPolicy
    after: SandboxPolicy


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a change would do to one thing: what becomes of its runs (`was`: without the change), and why."""

    name: str
    fate: Fate
    was: Fate
    reasons: Sequence[str] = ()
    id: str | None = None

    @property
    def breaks(self) -> bool:
        """Whether it is worse off than without the change."""
        return self.fate.is_worse_than(self.was)


@dataclass(frozen=True, slots=True)
class Prospects:
    """What a change would do to things of one `kind` (one word, such as `satellite`): each of them that there is."""

    kind: str
    each: Sequence[Prospect]


class PolicyPreviewer(Protocol):
    """The extension point: a plugin says what a change of the policy would do to what it looks after.

    It is asked when an administrator wants to know, before the change holds; nothing may be changed by that.
    """

    async def preview(self, proposed: ProposedPolicy) -> Prospects:
        """What would become of everything of one kind. An error, or no answer for seconds, is told as not known."""
