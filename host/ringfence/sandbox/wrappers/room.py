"""The words for a sandbox's room: what is in it and where, who one is in it, and what it shares with the host.

These are values. Nothing here knows which wrapper makes the room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ringfence.sandbox.hashing import hashed_once
from ringfence.sandbox.wrappers.stage import Preparation


@dataclass(frozen=True, slots=True)
class Shown:
    """A file or directory of the host, read-only, with what is mounted beneath it."""

    source: str
    at: str


@dataclass(frozen=True, slots=True)
class Layered:
    """A directory of the host, read-only, by an overlay over the empty directory `bottom`.

    What is in it has inodes of the room's own: a lock, a lease or a watch there is nobody else's. What is mounted
    beneath the source is not in it.
    """

    source: str
    at: str
    bottom: str


@dataclass(frozen=True, slots=True)
class Own:
    """A directory of the host that each room has its own of, read-only; which one, the descriptors tell.

    One of several is told by its name.
    """

    at: str
    name: str = "script"


@dataclass(frozen=True, slots=True)
class HostFiles:
    """All of the host's files, as they are for the child anyway."""


@dataclass(frozen=True, slots=True)
class Made:
    """A file that is made, read-only, with this content."""

    at: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Covered:
    """A file that is there already, and reads as this content here."""

    at: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Masked:
    """A file that is there already, and reads as empty here."""

    at: str


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    at: str
    to: str


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the host."""

    source: str
    at: str


@dataclass(frozen=True, slots=True)
class Proc:
    """A file system like `/proc`, that knows the room's own processes."""

    at: str = "/proc"


@dataclass(frozen=True, slots=True)
class ClosedProc:
    """From here on nothing of a `Proc` can be opened for writing, whatever its permissions say."""

    at: str = "/proc"


@dataclass(frozen=True, slots=True)
class Memory:
    """A file system in memory, with room for `size` bytes, whose directory has these permissions."""

    at: str
    size: int
    mode: int
    read_only: bool = False


FURNISHED_BYTES = 16 * 1024 * 1024
"""So much room there is in a `Furnished`."""


@dataclass(frozen=True, slots=True)
class Furnished:
    """A small file system in memory, for what later steps put into it; to be closed by a `Closed`."""

    at: str


@dataclass(frozen=True, slots=True)
class Closed:
    """From here on nothing can be added to a `Furnished`."""

    at: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, in what is writable by then."""

    at: str
    mode: int


@dataclass(frozen=True, slots=True)
class ClosedRoot:
    """From here on nothing can be added to the root: it is read-only, and what is mounted in it is as it was."""


Step = (
    Shown
    | Layered
    | Own
    | HostFiles
    | Made
    | Covered
    | Masked
    | Link
    | Device
    | Proc
    | ClosedProc
    | Memory
    | Furnished
    | Closed
    | Directory
    | ClosedRoot
)
"""One thing in a room. Steps are taken in their order; a later one may cover an earlier one."""


@hashed_once
@dataclass(frozen=True)
class Room:
    """All that a wrapper makes for one sandbox.

    User, PID, mount, IPC, UTS and (where the kernel has them) cgroup namespaces are its own in every room; the network
    namespace is its own and empty if `network` is, and otherwise the one in which the wrapper was started. Nobody in
    it has a capability. `uid` and `gid` are what the child is seen as inside; `filter` is the program that every system
    call is judged by, if there is one.
    """

    steps: tuple[Step, ...]
    uid: int
    gid: int
    network: bool
    hostname: str
    directory: str
    filter: bytes | None = None


class Descriptors(Protocol):
    """Gives numbers in the wrapper's process to what it needs by descriptor, one after the other."""

    def own(self, name: str) -> str:
        """The directory of this name that is this room's own; see `Own`."""

    def data(self, content: bytes) -> int:
        """The number of a file with this content, read from its beginning."""

    def data_of_one(self, content: bytes) -> int:
        """The same for what no other room has."""

    def info(self) -> int:
        """The number of what the supervisor is told on: lines of JSON.

        The first says that the room is there and has its init, whose pid it may tell as "child-pid"; one with
        "exit-code" says how the command ended.
        """

    def errors(self) -> int:
        """The number of the script's error output, for a wrapper that writes to descriptor 2 at any time.

        That descriptor is then its own, and what it says there is told only if it fails.
        """

    def kept(self) -> tuple[int, ...]:
        """The numbers of what is for the command, besides 0 to 2: the only ones that it may have."""

    def program(self) -> int | None:
        """The number of the wrapper's own program, if that is open when the wrapper starts: it is to be closed."""

    def latch(self) -> int | None:
        """The number of what the wrapper has to read to its end before it does anything, if it is to wait.

        Asked for by a wrapper that can: it is started in a quicker way then (see `processes.spawning.starting`).
        """


@dataclass(frozen=True, slots=True)
class Start:
    """How a wrapper is started: its arguments, and what is to be prepared before it, on a stage."""

    arguments: tuple[str, ...]
    preparation: Preparation | None = None


class Wrapper(Protocol):
    """A program that makes rooms, with what it needs on this host."""

    @property
    def program(self) -> str:
        """Its path."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries that it brings, to be loaded before others."""

    def start(self, room: Room, command: Sequence[str], descriptors: Descriptors) -> Start:
        """How it is started to make this room and run the command in it."""

    @property
    def hides(self) -> tuple[str, ...]:
        """Directories of the host of which it can show nothing."""

    def explained(self, log: str) -> str:
        """Why it failed, by what it said on a descriptor 2 of its own."""


def system(
    links: Iterable[tuple[str, str]], directories: Iterable[str], bottom: str | None
) -> tuple[Step, ...]:
    """The host's programs and libraries, read-only, where programs expect them; see `show`."""
    return (
        show("/usr", "/usr", bottom),
        *(Link(path, to) for path, to in links),
        *(show(path, path, bottom) for path in directories),
    )


def show(source: str, at: str, bottom: str | None) -> Shown | Layered:
    """A directory of the host: layered over `bottom`, or as it is if that is None."""
    return Shown(source, at) if bottom is None else Layered(source, at, bottom)
