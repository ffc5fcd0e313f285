"""A room in the arguments of bubblewrap (bwrap(1)): pure text.

They are passed by descriptor, so that nothing of them shows in `ps`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ringfence.sandbox.wrappers import room as words
from ringfence.sandbox.wrappers.room import Descriptors, Room, Start, Step

_GUESS = re.compile(r", likely because the kernel does not allow\b.*?unprivileged_userns_clone=1'\.?")

_OWN = "the room's own directory: "
"""What stands with its name in its place, in arguments for many rooms. No path is like that: paths are absolute."""


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """bubblewrap, and the libraries that a bundled one brings."""

    program: str
    libraries: tuple[str, ...] = ()

    def start(self, room: Room, command: Sequence[str], descriptors: Descriptors) -> Start:
        """How this wrapper is started for a room and the command in it."""
        text, contents = _rendered(room, descriptors.info())
        for name in {step.name for step in room.steps if isinstance(step, words.Own)}:
            text = text.replace(f"\0{_OWN}{name}\0".encode(), b"\0%b\0" % os.fsencode(descriptors.own(name)))
        for content in contents:
            descriptors.data(content)
        listed = descriptors.data_of_one(text)
        own = descriptors.program()
        closing = [] if own is None else ["--sync-fd", str(own)]
        latch = descriptors.latch()
        # Arguments are the first that it reads; that there are none here is all that it finds in the end.
        waiting = [] if latch is None else ["--args", str(latch)]
        return Start((*closing, *waiting, "--args", str(listed), "--", *command))

    @property
    def hides(self) -> tuple[str, ...]:
        """Nothing: the host's files are in its sight until the room is made."""
        return ()

    def explained(self, log: str) -> str:
        """What it said, on one line, without its guess: it takes any refusal for that of one setting of Debian's."""
        return _GUESS.sub("", " ".join(log.split()))


@functools.lru_cache(maxsize=64)
def _rendered(room: Room, info: int) -> tuple[bytes, tuple[bytes, ...]]:
    """The arguments before the command, and the contents of the descriptors from `info` + 1 on that they speak of."""
    contents = _Contents(info + 1)
    text = "".join(f"{word}\0" for word in arguments(room, contents, info))
    return text.encode(), tuple(contents.listed)


class _Contents:
    """What is to be given by descriptor, with the numbers that it will have."""

    def __init__(self, first: int) -> None:
        self.listed: list[bytes] = []
        self._first = first

    def data(self, content: bytes) -> int:
        self.listed.append(content)
        return self._first + len(self.listed) - 1


def arguments(room: Room, contents: _Contents, info: int) -> list[str]:
    """The arguments before the command.

    On descriptor `info` the wrapper tells the pid of the namespace's init, and how its command ended.
    """
    return [
        "--unshare-user",
        # Said, and not left to be taken over: whoever came through the gate is root in the namespace around.
        *("--uid", str(room.uid), "--gid", str(room.gid)),
        *("--cap-drop", "ALL"),
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        *(["--unshare-net"] if room.network else []),
        "--die-with-parent",
        *("--unsetenv", "LD_PRELOAD"),
        "--new-session",
        *("--hostname", room.hostname),
        *("--json-status-fd", str(info)),
        *(word for step in room.steps for word in _step(step, contents)),
        *(["--add-seccomp-fd", str(contents.data(room.filter))] if room.filter is not None else []),
        *("--chdir", room.directory),
    ]


def _step(step: Step, contents: _Contents) -> list[str]:
    match step:
        case words.Made(at, content):
            return ["--perms", "0444", "--file", str(contents.data(content)), at]
        case words.Covered(at, content):
            return ["--ro-bind-data", str(contents.data(content)), at]
        case words.Masked(at):
            return ["--ro-bind-data", str(contents.data(b"")), at]
        case words.Shown(source, at):
            return ["--ro-bind", source, at]
        case words.Layered(source, at, bottom):
            sources = ["--overlay-src", bottom, "--overlay-src", source]
            # A mount of the sandbox's own: bubblewrap says "nosuid" and "nodev" of it only when it is remounted.
            return [*sources, "--ro-overlay", at, "--remount-ro", at]
        case words.Own(at, name):
            return ["--ro-bind", f"{_OWN}{name}", at]
        case words.HostFiles():
            return ["--dev-bind", "/", "/"]
        case words.Link(at, to):
            return ["--symlink", to, at]
        case words.Device(source, at):
            return ["--dev-bind", source, at]
        case words.Proc(at):
            return ["--proc", at]
        case words.Furnished(at):
            return ["--perms", "0755", "--size", str(words.FURNISHED_BYTES), "--tmpfs", at]
        case words.ClosedProc(at) | words.Closed(at):
            return ["--remount-ro", at]
        case words.Memory(at, size, mode, read_only):
            sealed = ["--remount-ro", at] if read_only else []
            return ["--perms", f"{mode:04o}", "--size", str(size), "--tmpfs", at, *sealed]
        case words.Directory(at, mode):
            return ["--perms", f"{mode:04o}", "--dir", at]
        case words.ClosedRoot():
            return ["--remount-ro", "/"]
