"""What each primitive is where it was seen to work: one value for each, with names of its own. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from ringfence.sandbox.egress.link.macvlan import MacvlanSettings
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.limits.cgroups.place import Place
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.installed import Program

HOSTS_TUN = "/dev/net/tun"
"""The device that makes interfaces, where it is on every host that has one."""


class Found(ABC):
    """A primitive that was seen to work."""

    __slots__ = ()
    available: ClassVar[Literal[True]] = True

    @property
    @abstractmethod
    def detail(self) -> str:
        """Which it is, or how it was seen to work, for people."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A primitive that this host does not give, and why; or one that was not `tried`, since nothing needs it.

    `passing` is whether the attempt failed by something that may be over at the next one: then nothing is known of it.
    """

    available: ClassVar[Literal[False]] = False
    reason: str
    tried: bool = True
    passing: bool = False


@dataclass(frozen=True, slots=True)
class InstalledWrapper(Found):
    """The wrapper of runs, which starts here."""

    kind: WrapperKind
    program: Program

    @property
    def detail(self) -> str:
        """Its name, its version and where it comes from."""
        version = f" {self.program.version}" if self.program.version else ""
        return f"{self.kind}{version} ({self.program.origin})"


class _Made(Found):
    """Something that was made once."""

    __slots__ = ()

    @property
    def detail(self) -> str:
        """That it was made."""
        return "made one"


@dataclass(frozen=True, slots=True)
class UserNamespaces(_Made):
    """User namespaces can be made."""


@dataclass(frozen=True, slots=True)
class NetworkNamespaces(_Made):
    """Network namespaces can be made, within user namespaces."""


@dataclass(frozen=True, slots=True)
class FreshProc(_Made):
    """A `/proc` can be mounted that knows only the processes of its own PID namespace."""


@dataclass(frozen=True, slots=True)
class Overlay(_Made):
    """Directories of the host can be layered over an empty one."""


@dataclass(frozen=True, slots=True)
class IdentityDrop(Found):
    """A child really gets an identity that is not root's: `given`, or that of its supervisor if that is None."""

    supervisor_uid: int
    given: Identity | None = None

    @property
    def detail(self) -> str:
        """Whose identity a child gets, and from whom."""
        if self.given is None:
            return f"the supervisor is uid {self.supervisor_uid}, and a child inherits that"
        if self.supervisor_uid != 0:
            return f"a child can be subordinate uid {self.given.uid}, with no other groups"
        return f"root drops to uid {self.given.uid}, gid {self.given.gid}, no other groups"


@dataclass(frozen=True, slots=True)
class Uids(Found):
    """Runs can have uids of their own, of a range."""

    range: UidRange

    @property
    def detail(self) -> str:
        """How many, and which."""
        return f"{self.range.places} for runs, of {self.range}"


@dataclass(frozen=True, slots=True)
class ResourceLimits(Found):
    """A process that lowers its own limits is held to them."""

    @property
    def detail(self) -> str:
        """The system call."""
        return "setrlimit"


@dataclass(frozen=True, slots=True)
class Seccomp(Found):
    """The kernel takes filters of system calls, and those of this machine are known."""

    machine: str

    @property
    def detail(self) -> str:
        """For which machine the filter is."""
        return f"a filter for {self.machine}"


@dataclass(frozen=True, slots=True)
class Cgroup(Found):
    """Runs can have cgroups of their own, beneath a subtree that is ours."""

    place: Place

    @property
    def detail(self) -> str:
        """What holds the limits, and where."""
        return self.place.detail


@dataclass(frozen=True, slots=True)
class Landlock(Found):
    """The kernel has Landlock, in this version of its interface."""

    abi: int

    @property
    def detail(self) -> str:
        """The version."""
        return f"Landlock ABI {self.abi}"


@dataclass(frozen=True, slots=True)
class PacketFilter(Found):
    """A ruleset can be loaded into a network namespace, by the program nft at `path`."""

    path: str

    @property
    def detail(self) -> str:
        """How that was seen."""
        return "loaded a ruleset"


@dataclass(frozen=True, slots=True)
class TunDevice(Found):
    """A userspace stack can have a tun device: the host's, or a node of its own where that is for root only."""

    own_node: bool = False

    @property
    def detail(self) -> str:
        """Which of both."""
        return "a node of its own, since the host's is for root only" if self.own_node else HOSTS_TUN


@dataclass(frozen=True, slots=True)
class EgressRelay(Found):
    """A relay can make a run's connections for it. `pings` is whether that is so for echo requests."""

    pings: bool

    @property
    def detail(self) -> str:
        """How that was seen."""
        return "served a network namespace" + ("" if self.pings else ", but for echo requests (ping)")


@dataclass(frozen=True, slots=True)
class SlirpProgram(Found):
    """The program slirp4netns at `path` gives a network namespace a link."""

    path: str

    @property
    def detail(self) -> str:
        """How that was seen."""
        return "attached a link by slirp4netns"


@dataclass(frozen=True, slots=True)
class PastaProgram(Found):
    """The program pasta at `path` gives a network namespace a link."""

    path: str

    @property
    def detail(self) -> str:
        """How that was seen."""
        return "attached a link by pasta"


@dataclass(frozen=True, slots=True)
class MacvlanAddresses(Found):
    """Runs can have interfaces on the host's network, with the addresses that a setting gives them."""

    setting: str
    settings: MacvlanSettings

    @classmethod
    def of(cls, setting: str) -> MacvlanAddresses:
        """Those of the setting's text. Raises `MacvlanSettingsError`."""
        return cls(setting, MacvlanSettings.parse(setting))

    @property
    def detail(self) -> str:
        """How many addresses there are, and on which interface."""
        return f"{self.settings.places} addresses on {self.settings.parent}"


@dataclass(frozen=True, slots=True)
class Shell(Found):
    """The system's POSIX shell: `path` leads to the program `real`."""

    path: str
    real: str

    @property
    def roots(self) -> tuple[str, ...]:
        """It needs no directory that a sandbox would not have."""
        return ()

    @property
    def detail(self) -> str:
        """Which shell it really is."""
        return self.real


@dataclass(frozen=True, slots=True)
class Python(Found):
    """A Python for scripts. `roots` are the directories that it needs besides those of the system."""

    path: str
    version: str
    roots: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        """Which it is, and where."""
        return f"Python {self.version} ({self.path})"


@dataclass(frozen=True, slots=True)
class Node(Found):
    """A Node.js for scripts. `version` begins with "v"; `roots` are as Python's."""

    path: str
    version: str
    roots: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        """Which it is, and where."""
        return f"Node.js {self.version} ({self.path})"
