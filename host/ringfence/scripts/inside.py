"""Which programs there are inside a sandbox, looked for on the host before the sandbox is made.

What is looked at is what the plan shows of the host. A program that is changed in between fails in the sandbox, and is
told by the shell there.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable
from dataclasses import replace

from ringfence.sandbox.plan.environment import PATH
from ringfence.sandbox.plan.furnish import PACKAGES
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.policy import FilesystemMode
from ringfence.scripts.choosing import ELF, Choice, NotRunnable, interpreter, is_for_another_machine, needed

_HEAD = 256
"""How much of a program the kernel reads to find out what runs it."""


class Inside:
    """What a plan's sandbox has of this host's programs."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._shown = _shown(plan)

    def program(self, name: str) -> str | None:
        """The path inside of the program that this is, by its path or its name on PATH; None if there is none."""
        paths = [name] if "/" in name else [f"{directory}/{name}" for directory in PATH.split(":")]
        return next((path for path in paths if self._is_program(path)), None)

    def head(self, path: str) -> bytes:
        """The beginning of a program; nothing if it cannot be read."""
        try:
            with open(self._outside(path), "rb") as file:
                return file.read(_HEAD)
        except OSError:
            return b""

    def _is_program(self, path: str) -> bool:
        try:
            real = os.path.realpath(self._outside(path))
            found = os.stat(real)
        except (OSError, ValueError):
            return False
        shown = self._shown is None or all(_is_within(place, self._shown) for place in (path, real))
        return shown and stat.S_ISREG(found.st_mode) and bool(found.st_mode & self._bits(found))

    def _bits(self, found: os.stat_result) -> int:
        """Which of a file's permissions let the run execute it."""
        identity = self._plan.identity
        if self._plan.uids is None and identity.uid == found.st_uid:
            return stat.S_IXUSR
        own_group = self._plan.uids is None and identity.gid == found.st_gid
        return stat.S_IXGRP if own_group else stat.S_IXOTH

    def _outside(self, path: str) -> str:
        packages = self._plan.packages
        if packages is not None and self._plan.wrapper is not None and _is_within(path, (PACKAGES,)):
            return packages + path[len(PACKAGES) :]
        return path


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


def _shown(plan: Plan) -> tuple[str, ...] | None:
    """The directories that programs can be started from; None for all of the host's."""
    if plan.wrapper is None:
        return None if plan.confinement is None or not plan.confinement.files else plan.confinement.programs
    if plan.filesystem is FilesystemMode.OFF:
        return None
    layout = plan.layout
    own = () if plan.packages is None else (PACKAGES, os.path.realpath(plan.packages))
    return ("/usr", *(path for path, _ in layout.links), *layout.directories, *plan.roots, *layout.etc, *own)


def _is_within(path: str, directories: Iterable[str]) -> bool:
    return any(path == each or path.startswith(f"{each.rstrip('/')}/") for each in directories)
