"""What a run needs, and what is planned for it: plain values."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ringfence.sandbox.capabilities.host_sockets import HostSocket, SocketsFound
from ringfence.sandbox.capabilities.host_view import HostFound
from ringfence.sandbox.capabilities.model import (
    SystemLayout,
)
from ringfence.sandbox.egress import (
    EgressPlan,
    Relay,
)
from ringfence.sandbox.filters.landlock import Confinement
from ringfence.sandbox.hashing import hashed_once
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.limits.cgroups.place import Place
from ringfence.sandbox.policy import (
    FilesystemMode,
    HostView,
    Resources,
)
from ringfence.sandbox.report import SandboxReport
from ringfence.sandbox.wrappers.room import Wrapper


class Interpreter(enum.StrEnum):
    """Which program a run needs."""

    SHELL = "shell"
    PYTHON = "python"
    NODE = "node"


class Reach(enum.Enum):
    """Which network a run is in: without a link, with a filtered link, with a relay outside, or the host's own."""

    NOTHING = "nothing"
    FILTERED = "filtered"
    RELAYED = "relayed"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run needs beyond the policy.

    `packages` is the managed package tree, if there is one, and `packages_mount` something that is mounted beneath it.
    It is `packages_private` if not every user can reach it. `host` is what was found of what the policy wants to be
    shown of the host, and `sockets` of the host's sockets that it gives. `state`: it has a state directory.
    """

    interpreter: Interpreter
    packages: str | None = None
    packages_mount: str | None = None
    packages_private: bool = False
    host: HostFound | None = None
    sockets: SocketsFound | None = None
    state: bool = False


@hashed_once
@dataclass(frozen=True)
class Plan:
    """All that `launch` needs. Two equal plans make interchangeable sandboxes.

    `wrapper` is what makes the room, or None for a child without namespaces (a degraded or disabled
    sandbox). `identity` is what the child is inside, and outside too unless it gets a uid of its own there, one of
    `uids`.
    `egress` is the filter and the link of a run whose `reach` is `FILTERED`, with `nft` to load it; `relay`
    is what makes the connections of one whose reach is `RELAYED`; both None for any other. `confinement` is what a
    child without namespaces is confined to, if the host has Landlock.
    `cgroup` is where the run gets a cgroup of its own; what is mounted there is what it could reach if it sees the
    host's files. A `layered` run has the host's directories as read-only
    overlays, and the package tree too if that is `packages_layered`. `host` is what it is shown of the host's files,
    and `host_view` what else of the host; `sockets` are those of the host's that it has. `state`: it has a state
    directory.
    """

    wrapper: Wrapper | None
    identity: Identity
    program: str
    roots: tuple[str, ...]
    filesystem: FilesystemMode
    reach: Reach
    resources: Resources
    limited: bool
    filtered: bool
    layout: SystemLayout
    packages: str | None
    report: SandboxReport = field(compare=False)
    egress: EgressPlan | None = None
    relay: Relay | None = None
    nft: str | None = None
    confinement: Confinement | None = None
    cgroup: Place | None = None
    uids: UidRange | None = None
    layered: bool = False
    packages_layered: bool = False
    host: HostFound | None = None
    host_view: frozenset[HostView] = frozenset()
    sockets: tuple[HostSocket, ...] = ()
    state: bool = False

    @property
    def nameservers(self) -> tuple[str, ...]:
        """Whom it asks for names, in a network of its own that leads out."""
        link = self.relay or self.egress
        return () if link is None else link.nameservers

    @property
    def has_link(self) -> bool:
        """Whether it is in a network of its own that leads out."""
        return self.relay is not None or self.egress is not None

    @property
    def shows_host_files(self) -> bool:
        """Whether there are files of the host's in a run, as its policy says."""
        return self.host is not None

    @property
    def sees_host(self) -> bool:
        """Whether its policy shows it anything of the host beside programs, what these need, and packages."""
        return (
            self.filesystem is FilesystemMode.OFF
            or self.shows_host_files
            or bool(self.host_view or self.sockets)
        )

    @property
    def hides_sockets(self) -> bool:
        """Whether there may be sockets of the host's among the files of a run whose policy gives it none."""
        return self.shows_host_files and not self.sockets

    @property
    def shares_files(self) -> bool:
        """Whether files of the host are in a run whose policy does not give it all of them."""
        layered = self.layered and (self.packages is None or self.packages_layered)
        kept = self.filesystem is not FilesystemMode.OFF
        return self.wrapper is not None and kept and (not layered or self.shows_host_files)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The run does not take place; the report's downgrades say why."""

    report: SandboxReport
