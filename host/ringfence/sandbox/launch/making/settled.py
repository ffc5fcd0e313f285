"""Directories of files that do not change, each made once and shown to many runs: the made part of `/etc`.

Threat: what one run does to such a file, or leaves in such a directory, is there for the next; or a run is shown what
the host's files held once. Mechanism: they are made by the supervisor, in a place of its own (see `scratch`) whose
names cannot be guessed, and are read-only to everybody else. A run has each by an overlay of its own, so that its locks
are nobody else's, and its supervisor shows them only to runs that have another uid than itself. A directory is made for
what it holds: what holds something else has another one, so no file in one is ever written again. If something of it
was taken away, by what cleans up the host's temporary files, it is made anew.

Nothing is removed before the supervisor ends, since a run may have it. So there are at most `MOST`; beyond that, runs
are given their files in the ordinary way, one by one.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections.abc import Collection
from dataclasses import dataclass

from ringfence.sandbox.launch.making.copies import Copy, Files
from ringfence.sandbox.launch.making.folders import place_for
from ringfence.sandbox.launch.making.scratch import Place

MOST = 16
"""So many directories a supervisor makes: for each identity, each set of name servers, each state of the host."""


@dataclass(frozen=True, slots=True)
class _Made:
    """One of them, with when each directory in it was changed last, which is when it was made."""

    path: str
    changed: tuple[tuple[str, int], ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was taken out of it."""
        try:
            return all(os.stat(path).st_mtime_ns == when for path, when in self.changed)
        except OSError:
            return False


class Settled:
    """Those that this process has made."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._made: dict[tuple[str, str, Files, Copy], _Made] = {}
        self._owner = os.getpid()
        self._one_at_a_time = threading.Lock()

    def path(self, top: str, files: Files, copy: Copy, hidden: Collection[str] = ()) -> str | None:
        """One that stands for `top`, with these files and this copy beneath it; None if there are enough.

        It is in no `hidden` directory of the host. Raises OSError.
        """
        directory = place_for(hidden)
        key = directory, top, files, copy
        with self._one_at_a_time:
            if self._owner != os.getpid():
                self._places, self._made, self._owner = {}, {}, os.getpid()
            known = self._made.get(key)
            if known is not None and known.is_whole:
                return known.path
            if len(self._made) >= MOST:
                return None
            if directory not in self._places or not os.path.isdir(self._places[directory].path):
                if not self._places:
                    atexit.register(self.remove)
                self._places[directory] = Place(directory)
            path = f"{self._places[directory].path}/{secrets.token_hex(16)}"
            self._made[key] = _make(path, top, files, copy)
            return path

    def remove(self) -> None:
        """Take away what this process made."""
        with self._one_at_a_time:
            if self._owner == os.getpid():
                for place in self._places.values():
                    place.close()
                self._places.clear()
                self._made.clear()


def _make(path: str, top: str, files: Files, copy: Copy) -> _Made:
    made = {path: None}
    _directory(path)
    both = (*files, *copy.files)
    for wanted in (*copy.directories, *(os.path.dirname(name) for name, _ in (*both, *copy.links))):
        at = path
        for name in wanted.removeprefix(top).split("/"):
            at = f"{at}/{name}" if name else at
            if at not in made:
                _directory(at)
                made[at] = None
    for name, content in both:
        descriptor = os.open(
            path + name.removeprefix(top), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444
        )
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, 0o444)
    for name, target in copy.links:
        os.symlink(target, path + name.removeprefix(top))
    return _Made(path, tuple((each, os.stat(each).st_mtime_ns) for each in made))


def _directory(path: str) -> None:
    os.mkdir(path)
    os.chmod(path, 0o755)  # noqa: S103 - everybody may read what is in it, and nobody change it


SETTLED = Settled()
"""The ones of this process."""
