"""The root of a room that has the numbers of the host's root: an empty tree on that file system, for what is mounted.

What `df /` tells is of the file system that `/` is on. So such a room's root is a directory there, which has nothing in
it but empty directories, empty files and links, at the places where the room's parts are mounted. One is made for all
rooms that have the same places, by this process, in a place that goes with it (see `scratch`).
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading

from ringfence.sandbox.launch.making.scratch import Place
from ringfence.sandbox.wrappers.room import (
    Device,
    Furnished,
    Layered,
    Link,
    Memory,
    Own,
    Proc,
    Shown,
    Step,
)

Node = tuple[str, str | None]
"""A path, and where it leads if it is a link; "" for a file, None for a directory."""


def nodes(steps: tuple[Step, ...], files: frozenset[str]) -> tuple[Node, ...]:
    """What the tree has to have for these steps. Those of `files` are shown as files.

    What is in a file system in memory is made there, when the room is.
    """
    inside = tuple(f"{step.at}/" for step in steps if isinstance(step, Memory | Furnished | Own | Proc))
    found: dict[str, str | None] = {}
    for step in steps:
        if not isinstance(step, Shown | Layered | Own | Memory | Furnished | Link | Device | Proc):
            continue
        if step.at == "/" or step.at.startswith(inside):
            continue
        if isinstance(step, Link):
            found.setdefault(step.at, step.to)
        else:
            found.setdefault(step.at, "" if step.at in files else None)
    return tuple(sorted(found.items()))


class Skeletons:
    """Those that this process has made."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._made: dict[tuple[str, tuple[Node, ...]], str] = {}
        self._owner = os.getpid()
        self._one_at_a_time = threading.Lock()

    def path(self, directory: str, wanted: tuple[Node, ...]) -> str:
        """One with these nodes, made in this directory. Raises OSError."""
        with self._one_at_a_time:
            if self._owner != os.getpid():
                self._places, self._made, self._owner = {}, {}, os.getpid()
            known = self._made.get((directory, wanted))
            if known is not None and os.path.isdir(known):
                return known
            if directory not in self._places or not os.path.isdir(self._places[directory].path):
                if not self._places:
                    atexit.register(self.remove)
                self._places[directory] = Place(directory)
            path = f"{self._places[directory].path}/{secrets.token_hex(16)}"
            _make(path, wanted)
            self._made[directory, wanted] = path
            return path

    def remove(self) -> None:
        """Take away what this process made."""
        with self._one_at_a_time:
            if self._owner == os.getpid():
                for place in self._places.values():
                    place.close()
                self._places.clear()
                self._made.clear()


def _make(top: str, wanted: tuple[Node, ...]) -> None:
    _directory(top)
    for path, leads in wanted:
        real = f"{top}{path}"
        parent = top
        for name in path.split("/")[1:-1]:
            parent = f"{parent}/{name}"
            _directory(parent)
        if leads is None:
            _directory(real)
        elif leads:
            os.symlink(leads, real)
        else:
            os.close(os.open(real, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))


def _directory(path: str) -> None:
    if not os.path.isdir(path):
        os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103 - there is nothing in it


SKELETONS = Skeletons()
"""The ones of this process."""
