"""A room in the arguments of bubblewrap (bwrap(1)): pure text.

They are passed by descriptor, so that nothing of them shows in `ps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringfence.sandbox.wrappers import room as words
from ringfence.sandbox.wrappers.room import Descriptors, Room, Start, Step


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """bubblewrap, and the libraries that a bundled one brings."""

    program: str
    libraries: tuple[str, ...] = ()

    def start(self, room: Room, command: Sequence[str], descriptors: Descriptors) -> Start:
        """How this wrapper is started for a room and the command in it."""
        text = "".join(f"{word}\0" for word in arguments(room, descriptors, descriptors.info()))
        listed = descriptors.data(text.encode())
        own = descriptors.program()
        closing = [] if own is None else ["--sync-fd", str(own)]
        return Start((*closing, "--args", str(listed), "--", *command))

    def explained(self, log: str) -> str:
        """What it said, on one line."""
        return " ".join(log.split())


def arguments(room: Room, descriptors: Descriptors, info: int) -> list[str]:
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
        *(word for step in room.steps for word in _step(step, descriptors)),
        *(["--add-seccomp-fd", str(descriptors.data(room.filter))] if room.filter is not None else []),
        *("--chdir", room.directory),
    ]


def _step(step: Step, descriptors: Descriptors) -> list[str]:
    match step:
        case words.Made(at, content):
            return ["--perms", "0444", "--file", str(descriptors.data(content)), at]
        case words.Covered(at, content):
            return ["--ro-bind-data", str(descriptors.data(content)), at]
        case words.Masked(at):
            return ["--ro-bind-data", str(descriptors.data(b"")), at]
        case words.Shown(source, at):
            return ["--ro-bind", source, at]
        case words.Layered(source, at, bottom):
            sources = ["--overlay-src", bottom, "--overlay-src", source]
            # A mount of the sandbox's own: bubblewrap says "nosuid" and "nodev" of it only when it is remounted.
            return [*sources, "--ro-overlay", at, "--remount-ro", at]
        case words.HostFiles():
            return ["--dev-bind", "/", "/"]
        case words.Link(at, to):
            return ["--symlink", to, at]
        case words.Device(source, at):
            return ["--dev-bind", source, at]
        case words.Proc():
            return ["--proc", "/proc"]
        case words.ClosedProc():
            return ["--remount-ro", "/proc"]
        case words.Memory(at, size, mode, read_only):
            sealed = ["--remount-ro", at] if read_only else []
            return ["--perms", f"{mode:04o}", "--size", str(size), "--tmpfs", at, *sealed]
        case words.Directory(at, mode):
            return ["--perms", f"{mode:04o}", "--dir", at]
        case words.ClosedRoot():
            return ["--remount-ro", "/"]
