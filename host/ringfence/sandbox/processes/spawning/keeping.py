"""What a run finds in its state directory and what it leaves there: put into it, and taken out of it again.

Threat: what a script leaves in a directory leads whoever reads it elsewhere (links, devices, pipes that block), or has
no end (deep trees, millions of files, sparse files). What was stored is not trusted either: it came out of there.
Mechanism: both are done by a fork that has the identity of the run and no right beside it, by descriptors alone. Each
entry is opened in the directory above it without following a link, and looked at by its descriptor before it is opened
for reading; only directories, and regular files with a single name, are taken, the others are named. Number, depth,
length of paths and bytes have bounds. Not covered: times, owners and extended attributes, which are not kept.

An archive is a line that says what it is, and for each entry a line `d|f <mode> <bytes of path> <bytes of content>`,
its path from the state directory on, and its content; directories come before what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
from collections.abc import Iterator
from typing import Any

from .identity import dumpable

MAGIC = b"ringfence state 1\n"

MOST_ENTRIES, DEEPEST, LONGEST_PATH = 1000, 8, 1024
"""How many files and directories are kept, how deep they may be nested, and how long a path may be, in bytes."""

MOST_NAMED = 20
"""How many of the entries that are not kept are named."""

KEEPING_S = 20
LONGEST_HEAD = 64

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotKeptError(Exception):
    """A state cannot be kept, or put back; the message says why."""


def keep(request: dict[str, Any], directory: int, archive: int) -> int:
    """Do what a request asks for: "fill" the directory from the archive, or "gather" it into the archive.

    The status is 1 if that cannot be done; the archive then holds the reason. What was gathered stands behind a line of
    JSON with the names of what was left out.
    """
    signal.alarm(KEEPING_S)
    try:
        with dumpable():
            if request["state"] == "fill":
                fill(directory, _content(archive, os.fstat(archive).st_size))
                return 0
            kept, left_out = gather(directory, request["most"])
        _answer(archive, json.dumps(left_out).encode() + b"\n" + kept)
    except NotKeptError as error:
        _answer(archive, str(error).encode())
        return 1
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        _answer(archive, ("it does not fit" if full else str(error.strerror)).encode())
        return 1
    return 0


def fill(directory: int, archive: bytes) -> None:
    """Make in an empty directory what an archive holds. Raises NotKeptError and OSError."""
    with _reopened(directory) as root:
        for path, mode, content in entries(archive):
            with _walked(root, path[:-1]) as parent:
                if content is None:
                    os.mkdir(path[-1], 0o700, dir_fd=parent)
                else:
                    _put(parent, path[-1], mode, content)
        # Last: a directory that may not be written to gets its files first.
        for path, mode, content in entries(archive):
            if content is None:
                with _walked(root, path) as made:
                    os.fchmod(made, mode | stat.S_IRWXU)


def entries(archive: bytes) -> Iterator[tuple[tuple[bytes, ...], int, bytes | None]]:
    """What an archive holds: paths, modes and contents; None as the content of a directory. Raises NotKeptError."""
    if not archive:
        return
    if not archive.startswith(MAGIC):
        raise NotKeptError("the stored state is of another release, or damaged")
    at, count = len(MAGIC), 0
    while at < len(archive):
        end = archive.find(b"\n", at, at + LONGEST_HEAD)
        fields = archive[at:end].split(b" ") if end >= 0 else []
        count += 1
        if len(fields) != 4 or not all(field.isdigit() for field in fields[1:]) or count > MOST_ENTRIES:
            raise NotKeptError("the stored state is damaged")
        kind, mode, length, size = fields[0], int(fields[1], 8), int(fields[2]), int(fields[3])
        at = end + 1
        path = tuple(archive[at : at + length].split(b"/"))
        content = archive[at + length : at + length + size]
        at += length + size
        if (
            kind not in (b"d", b"f")
            or at > len(archive)
            or length > LONGEST_PATH
            or len(path) > DEEPEST
            or any(name in (b"", b".", b"..") or b"\0" in name for name in path)
        ):
            raise NotKeptError("the stored state is damaged")
        yield path, mode & 0o777, content if kind == b"f" else None


def gather(directory: int, most: int) -> tuple[bytes, list[str]]:
    """An archive of what is in a directory, and the names of what is not in it, each with its kind.

    Raises:
        NotKeptError: if it is too much, in number, depth or bytes; `most` is how many bytes files may have together.
        OSError: if it cannot be read.
    """
    gathered = _Gathered(most)
    with _reopened(directory) as root:
        gathered.take(root, ())
    left_out, more = gathered.left_out[:MOST_NAMED], len(gathered.left_out) - MOST_NAMED
    return b"".join(gathered.parts), left_out + ([f"{more} more"] if more > 0 else [])


class _Gathered:
    """What was gathered so far."""

    def __init__(self, most: int) -> None:
        self.parts = [MAGIC]
        self.left_out: list[str] = []
        self._most = most
        self._entries = self._bytes = 0

    def take(self, directory: int, above: tuple[bytes, ...]) -> None:
        """Take all that is in a directory; as deep as `DEEPEST`, so with few descriptors."""
        for name in _names(directory, MOST_ENTRIES - self._entries):
            self._entries += 1
            path = (*above, name)
            if len(path) > DEEPEST:
                raise NotKeptError(f"it is nested more than {DEEPEST} deep")
            if len(b"/".join(path)) > LONGEST_PATH:
                raise NotKeptError(f"a path in it has more than {LONGEST_PATH} bytes")
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            with _closing(os.open(name, flags, dir_fd=directory)) as found:
                self._take_one(found, path)

    def _take_one(self, found: int, path: tuple[bytes, ...]) -> None:
        facts, text = os.fstat(found), b"/".join(path)
        kind, mode = stat.S_IFMT(facts.st_mode), facts.st_mode & 0o777
        if kind == stat.S_IFDIR:
            self.parts.append(_head(b"d", mode, text, 0))
            with _reopened(found) as inner:
                self.take(inner, path)
        elif kind == stat.S_IFREG and facts.st_nlink == 1:
            self._bytes += facts.st_size
            if self._bytes > self._most:
                raise NotKeptError(f"its files have more than {self._most} bytes together")
            with _reopened(found, directory=False) as file:
                content = _content(file, facts.st_size)
            self.parts += [_head(b"f", mode, text, len(content)), content]
        else:
            what = (
                "a file with several names"
                if kind == stat.S_IFREG
                else _KINDS.get(kind, "of an unknown kind")
            )
            self.left_out.append(f"{ascii(os.fsdecode(text))[:200]} ({what})")


def _head(kind: bytes, mode: int, path: bytes, size: int) -> bytes:
    return b"%b %o %d %d\n%b" % (kind, mode, len(path), size, path)


def _names(directory: int, most: int) -> list[bytes]:
    """What is in a directory, in order. Raises NotKeptError if it is more than that."""
    names: list[bytes] = []
    with os.scandir(directory) as found:
        for entry in found:
            if len(names) == most:
                raise NotKeptError(f"there are more than {MOST_ENTRIES} files and directories in it")
            names.append(os.fsencode(entry.name))
    return sorted(names)


def _put(parent: int, name: bytes, mode: int, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _closing(os.open(name, flags, 0o600, dir_fd=parent)) as file:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
        os.fchmod(file, mode)


def _content(file: int, size: int) -> bytes:
    """So many bytes of a file, or as many as there are."""
    content = b""
    while len(content) < size and (data := os.pread(file, size - len(content), len(content))):
        content += data
    return content


def _answer(archive: int, data: bytes) -> None:
    os.ftruncate(archive, 0)
    at = 0
    while at < len(data):
        at += os.pwrite(archive, data[at:], at)


@contextlib.contextmanager
def _walked(root: int, path: tuple[bytes, ...]) -> Iterator[int]:
    """The directory at a path of ours; nothing on the way may be a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.ExitStack() as opened:
        at = root
        for name in path:
            at = opened.enter_context(_closing(os.open(name, flags, dir_fd=at)))
        yield at


@contextlib.contextmanager
def _reopened(found: int, *, directory: bool = True) -> Iterator[int]:
    """Open for reading what was looked at by a descriptor, whatever its permissions say: it is our own."""
    path = f"/proc/self/fd/{found}"
    os.chmod(path, 0o700 if directory else 0o600)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_DIRECTORY if directory else 0)
    with _closing(os.open(path, flags)) as reading:
        yield reading


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
