"""Which programs there are inside a sandbox, looked for on the host before the sandbox is made.

What is looked at is what the plan shows of the host. A program that is changed in between fails in the sandbox, and is
told by the shell there.
"""

from __future__ import annotations

import functools
import os
import stat
from dataclasses import replace

from ringfence.sandbox.launch.making.furnishing import room_of
from ringfence.sandbox.plan.environment import PATH
from ringfence.sandbox.plan.furnish import ETC
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.wrappers.room import HostFiles, Layered, Link, Memory, Own, Shown, Step
from ringfence.scripts.choosing.choice import (
    ELF,
    Choice,
    NotRunnable,
    interpreter,
    is_for_another_machine,
    needed,
)

_HEAD = 256
"""How much of a program the kernel reads to find out what runs it."""
MOST_LINKS = 40
"""So many links are followed, as by the kernel (path_resolution(7))."""


class Inside:
    """What a plan's sandbox has of this host's programs."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        kept = plan.confinement is not None and plan.confinement.files
        self._confined = plan.confinement.programs if plan.confinement is not None and kept else None

    @functools.cached_property
    def _steps(self) -> tuple[Step, ...] | None:
        # Most scripts need nothing that is to be looked for.
        return room_of(self._plan).steps if self._plan.wrapper is not None else None

    def program(self, name: str) -> str | None:
        """The path inside of the program that this is, by its path or its name on PATH; None if there is none."""
        paths = [name] if "/" in name else [f"{directory}/{name}" for directory in PATH.split(":")]
        return next((path for path in paths if self._is_program(path)), None)

    def shows(self, path: str) -> bool:
        """Whether what is, or is not, at this path of the host is so inside, too."""
        outside = self._outside(path)
        return outside is not None and not any(_is_within(outside, made) for made in self._made)

    @functools.cached_property
    def _made(self) -> tuple[str, ...]:
        """Directories of Ringfence's own, which stand for the host's root and for its `/etc`."""
        return tuple(
            step.source
            for step in self._steps or ()
            if isinstance(step, Shown | Layered) and step.at in ("/", ETC) and step.source != step.at
        )

    def head(self, path: str) -> bytes:
        """The beginning of a program; nothing if it cannot be read."""
        try:
            with open(self._outside(path) or path, "rb") as file:
                return file.read(_HEAD)
        except OSError:
            return b""

    def _is_program(self, path: str) -> bool:
        outside = self._outside(path)
        if outside is None:
            return False
        try:
            real = os.path.realpath(outside)
            found = os.stat(real)
        except (OSError, ValueError):
            return False
        return (
            self._is_shown(real) and stat.S_ISREG(found.st_mode) and bool(found.st_mode & self._bits(found))
        )

    def _bits(self, found: os.stat_result) -> int:
        """Which of a file's permissions let the run execute it."""
        identity = self._plan.identity
        if self._plan.uids is None and identity.uid == found.st_uid:
            return stat.S_IXUSR
        own_group = self._plan.uids is None and identity.gid == found.st_gid
        return stat.S_IXGRP if own_group else stat.S_IXOTH

    def _outside(self, path: str, links: int = MOST_LINKS) -> str | None:
        """Where on the host is what has this path inside; None if nothing of the host is there."""
        if self._steps is None:
            return path
        if links == 0:
            return None
        # What comes later covers what was there before.
        for step in reversed(self._steps):
            match step:
                case HostFiles():
                    return path
                case Shown(source, at) | Layered(source, at) if _is_within(path, at):
                    outside = source.rstrip("/") + path[len(at.rstrip("/")) :]
                    # What is mounted beneath a shown directory is not in it, and a link of the root may lead there.
                    led = _led_on(source, path) if at == "/" else None
                    return outside if led is None else self._outside(led, links - 1)
                case Link(at, to) if _is_within(path, at):
                    path = os.path.join(os.path.dirname(at), to) + path[len(at) :]
                    return self._outside(path, links - 1)
                case Memory(at) | Own(at) if _is_within(path, at):
                    return None
        return None

    def _is_shown(self, real: str) -> bool:
        """Whether a file of the host, which a link inside may lead to, is inside at its own path."""
        if self._steps is not None:
            return self._outside(real) is not None or any(
                _is_within(real, os.path.realpath(step.source))
                for step in self._steps
                if isinstance(step, Shown | Layered)
            )
        return self._confined is None or any(_is_within(real, each) for each in self._confined)


def _led_on(source: str, path: str) -> str | None:
    """Where a path leads whose first part is a link in the directory that is shown as the root; None if it is none."""
    first, slash, rest = path.lstrip("/").partition("/")
    try:
        to = os.readlink(f"{source.rstrip('/')}/{first}")
    except OSError:
        return None
    return f"{os.path.join('/', to)}{slash}{rest}"


@functools.cache
def _own() -> bytes:
    """The beginning of a program for this machine."""
    with open("/proc/self/exe", "rb") as file:
        return file.read(_HEAD)


def found(choice: Choice, plan: Plan) -> Choice | NotRunnable:
    """The choice with the paths inside of what it needs, or why that cannot be run in such a sandbox."""
    inside, needs = Inside(plan), list(choice.needs)
    paths: list[str] = []
    while needs:
        name = needs.pop(0)
        path = inside.program(name)
        if path is None:
            return NotRunnable(f"{name} is needed to run this, and is no program in the sandbox")
        paths.append(path)
        if choice.source is None and len(paths) == 1:
            head = inside.head(path)
            if head.startswith(ELF) and is_for_another_machine(head, _own()):
                return NotRunnable(f"{path} is a program for another kind of machine")
            if head and not head.startswith((ELF, b"#!")):
                # The kernel starts neither, and a shell would take it for a script of its own.
                return NotRunnable(f"{path} is no program, and has no first line that names its interpreter")
            if head.startswith(b"#!"):
                try:
                    needs += needed(interpreter(head.partition(b"\n")[0]))
                except NotRunnable as reason:
                    return NotRunnable(f"{path}: {reason}")
    if (
        choice.source is not None
        and choice.source.startswith(ELF)
        and is_for_another_machine(choice.source, _own())
    ):
        return NotRunnable("the script is a program for another kind of machine")
    if not choice.words:
        return choice
    return replace(choice, words=(paths[0], *choice.words[1:]))


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")
