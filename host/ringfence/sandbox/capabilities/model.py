"""What a host can enforce, primitive by primitive: values that say it, and how they are told. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import UidRange, from_text
from ringfence.sandbox.wire import WireModel
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.room import Step, system

SANDBOX_UID = 65532
"""The uid and gid that a root supervisor drops to unless the policy names others; "nonroot" of many
images."""


EGRESS = ("nft", "tun", "slirp4netns", "pasta", "macvlan")
"""The names, here and on the wire, of what a filtered link is made of."""


class Available(WireModel):
    """A primitive that was seen to work. `detail` says which; `path` is where it is, if it is a program.

    `roots` is what goes with it: an interpreter's prefix, a bundled program's libraries, where cgroups are mounted.
    """

    available: Literal[True] = True
    detail: str = ""
    path: str | None = None
    roots: tuple[str, ...] = ()


class Missing(WireModel):
    """A primitive that this host does not give, and why; or one that was not `tried`, since nothing needs it.

    `passing` is whether the attempt failed by something that may be over at the next one: then nothing is known of it.
    """

    available: Literal[False] = False
    reason: str
    tried: bool = True
    passing: bool = False


Primitive = Annotated[Available | Missing, Field(discriminator="available")]


class SystemLayout(WireModel):
    """How the host lays out its programs: which top directories are links into `/usr`, and which stand alone."""

    links: tuple[tuple[str, str], ...] = ()
    directories: tuple[str, ...] = ()
    etc: tuple[str, ...] = ()

    def shown(self, roots: Iterable[str], bottom: str | None) -> tuple[Step, ...]:
        """The system's directories and these, at their own paths: layered over `bottom`, or as they are."""
        return system(self.links, (*self.directories, *roots, *self.etc), bottom)


class HostNetwork(WireModel):
    """What a run's link depends on.

    These are the host's resolvers, whether it has IPv6 beyond its links, and at all, and whether its packet filter
    lists networks together with ports. `read` is whether all of it could be read.
    """

    resolvers: tuple[str, ...] = ()
    has_ipv6: bool = False
    speaks_ipv6: bool = True
    lists_pairs: bool = True
    read: bool = True


class Capabilities(WireModel):
    """Each primitive that the sandbox is built of, as it is on this host, for this supervisor."""

    system: str
    machine: str
    kernel: str
    supervisor_uid: int
    supervisor_gid: int
    wrapper_kind: WrapperKind = WrapperKind.BUBBLEWRAP
    wrapper: Primitive
    user_namespaces: Primitive
    network_namespaces: Primitive
    fresh_proc: Primitive
    overlay: Primitive
    identity_drop: Primitive
    uids: Primitive
    rlimits: Primitive
    seccomp: Primitive
    cgroup: Primitive
    landlock: Primitive
    nft: Primitive
    tun: Primitive
    slirp4netns: Primitive = Field(alias="slirp4netns")
    pasta: Primitive
    macvlan: Primitive
    shell: Primitive
    python: Primitive
    node: Primitive
    layout: SystemLayout = SystemLayout()
    host_network: HostNetwork = HostNetwork()
    core_pattern: str = ""

    @property
    def supervisor_is_root(self) -> bool:
        """Whether a child must leave root before its namespaces are made."""
        return self.supervisor_uid == 0

    @property
    def uid_range(self) -> UidRange | None:
        """The uids that runs have to themselves, if there are any to give out."""
        if not isinstance(self.uids, Available):
            return None
        return from_text(str(self.uids.path), Identity(self.supervisor_uid, self.supervisor_gid))

    @property
    def landlock_abi(self) -> int:
        """The kernel's version of Landlock; 0 without."""
        if isinstance(self.landlock, Missing):
            return 0
        return int(self.landlock.detail.rpartition(" ")[2])

    @property
    def is_linux(self) -> bool:
        """Whether this is the one system whose primitives are known here."""
        return self.system == "linux"

    def primitives(self) -> Iterator[tuple[str, Available | Missing]]:
        """Each primitive with its wire name."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Available | Missing):
                yield field.alias or name, value

    @property
    def is_certain(self) -> bool:
        """Whether nothing failed by a fault that may pass."""
        return self.host_network.read and not self.may_pass()

    def may_pass(self) -> tuple[tuple[str, Missing], ...]:
        """The primitives of which nothing is known, since what kept them may be over at the next attempt."""
        return tuple(
            (name, each) for name, each in self.primitives() if isinstance(each, Missing) and each.passing
        )

    def lacks(self) -> tuple[str, ...]:
        """The names of the primitives that were tried and are not there."""
        return tuple(name for name, each in self.primitives() if isinstance(each, Missing) and each.tried)

    def remembering(self, earlier: Capabilities) -> Capabilities:
        """These, with what worked earlier in place of what could not be tried again now."""
        kept: dict[str, object] = {}
        for name in type(self).model_fields:
            now, before = getattr(self, name), getattr(earlier, name)
            if isinstance(now, Missing) and now.passing and isinstance(before, Available):
                kept[name] = before
        if not self.host_network.read:
            kept["host_network"] = earlier.host_network
        return self.model_copy(update=kept) if kept else self

    def to_wire(self) -> dict[str, Any]:
        """The capabilities as JSON, in wire names."""
        return self.model_dump(mode="json", by_alias=True)


def describe(capabilities: Capabilities) -> str:
    """One line for a log: the system, what is there and what is not."""
    have = [name for name, primitive in capabilities.primitives() if primitive.available]
    lack = capabilities.lacks()
    system = f"{capabilities.system}/{capabilities.machine} {capabilities.kernel}"
    return f"{system}, uid {capabilities.supervisor_uid}: can use {', '.join(have) or 'nothing'}" + (
        f"; lacks {', '.join(lack)}" if lack else ""
    )
