"""What a host can enforce, primitive by primitive. A value: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ringfence.sandbox.capabilities import found
from ringfence.sandbox.capabilities.found import Found, Missing
from ringfence.sandbox.egress import HostNetwork
from ringfence.sandbox.hashing import hashed_once
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.room import Step, system

SANDBOX_UID = 65532
"""The uid and gid that a root supervisor drops to unless the policy names others; "nonroot" of many
images."""


EGRESS = ("relay", "nft", "tun", "slirp4netns", "pasta", "macvlan")
"""The names, here and on the wire, of what a filtered link is made of."""


_WIRE_NAMES = {
    "user_namespaces": "userNamespaces",
    "network_namespaces": "networkNamespaces",
    "fresh_proc": "freshProc",
    "identity_drop": "identityDrop",
}
"""The primitives that have another name outside than here."""


@dataclass(frozen=True, slots=True)
class SystemLayout:
    """How the host lays out its programs: which top directories are links into `/usr`, and which stand alone.

    `etc` are the directories of `/etc` that programs look into. What in those is not everybody's to read is among
    `closed_files` and `closed_directories`.
    """

    links: tuple[tuple[str, str], ...] = ()
    directories: tuple[str, ...] = ()
    etc: tuple[str, ...] = ()
    closed_files: tuple[str, ...] = ()
    closed_directories: tuple[str, ...] = ()

    def shown(self, roots: Iterable[str], bottom: str | None) -> tuple[Step, ...]:
        """The system's directories and these, at their own paths: layered over `bottom`, or as they are."""
        return system(self.links, (*self.directories, *roots, *self.etc), bottom)


@hashed_once
@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """Each primitive that the sandbox is built of, as it is on this host, for this supervisor."""

    system: str
    machine: str
    kernel: str
    supervisor_uid: int
    supervisor_gid: int
    wrapper_kind: WrapperKind = WrapperKind.BUBBLEWRAP
    wrapper: found.InstalledWrapper | Missing
    user_namespaces: found.UserNamespaces | Missing
    network_namespaces: found.NetworkNamespaces | Missing
    fresh_proc: found.FreshProc | Missing
    overlay: found.Overlay | Missing
    identity_drop: found.IdentityDrop | Missing
    uids: found.Uids | Missing
    rlimits: found.ResourceLimits | Missing
    seccomp: found.Seccomp | Missing
    cgroup: found.Cgroup | Missing
    landlock: found.Landlock | Missing
    relay: found.EgressRelay | Missing = field(
        default_factory=lambda: Missing("it was not tried", tried=False)
    )
    nft: found.PacketFilter | Missing
    tun: found.TunDevice | Missing
    slirp4netns: found.SlirpProgram | Missing
    pasta: found.PastaProgram | Missing
    macvlan: found.MacvlanAddresses | Missing
    shell: found.Shell | Missing
    python: found.Python | Missing
    node: found.Node | Missing
    layout: SystemLayout = field(default_factory=SystemLayout)
    host_network: HostNetwork = field(default_factory=HostNetwork)
    core_pattern: str = ""

    @property
    def supervisor_is_root(self) -> bool:
        """Whether a child must leave root before its namespaces are made."""
        return self.supervisor_uid == 0

    @property
    def uid_range(self) -> UidRange | None:
        """The uids that runs have to themselves, if there are any to give out."""
        return None if isinstance(self.uids, Missing) else self.uids.range

    @property
    def is_linux(self) -> bool:
        """Whether this is the one system whose primitives are known here."""
        return self.system == "linux"

    def primitives(self) -> Iterator[tuple[str, Found | Missing]]:
        """Each primitive with its wire name."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Found | Missing):
                yield _WIRE_NAMES.get(each.name, each.name), value

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
        kept: dict[str, Any] = {}
        for each in fields(self):
            now, before = getattr(self, each.name), getattr(earlier, each.name)
            if isinstance(now, Missing) and now.passing and isinstance(before, Found):
                kept[each.name] = before
        if not self.host_network.read:
            kept["host_network"] = earlier.host_network
        return replace(self, **kept) if kept else self


def describe(capabilities: Capabilities) -> str:
    """One line for a log: the system, what is there and what is not."""
    have = [name for name, primitive in capabilities.primitives() if primitive.available]
    lack = capabilities.lacks()
    system = f"{capabilities.system}/{capabilities.machine} {capabilities.kernel}"
    return f"{system}, uid {capabilities.supervisor_uid}: can use {', '.join(have) or 'nothing'}" + (
        f"; lacks {', '.join(lack)}" if lack else ""
    )
