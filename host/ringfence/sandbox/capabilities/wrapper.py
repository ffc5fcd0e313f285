"""The wrapper that a host has, as a value that can make rooms."""

from __future__ import annotations

from ringfence.sandbox.capabilities.found import InstalledWrapper, Missing, Python
from ringfence.sandbox.wrappers.bubblewrap import Bubblewrap
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.nsjail import Nsjail
from ringfence.sandbox.wrappers.room import Wrapper


def wrapper_of(found: InstalledWrapper | Missing, python: Python | Missing | None) -> Wrapper | Missing:
    """The wrapper, with what it needs, or why there is none. `python` is what loads the filter where it cannot."""
    if isinstance(found, Missing):
        return found
    if found.kind is WrapperKind.BUBBLEWRAP:
        return Bubblewrap(found.program.path, found.program.libraries)
    if isinstance(python, Python):
        return Nsjail(found.program.path, python.path)
    reason = python.reason if python is not None else "it was not looked for"
    passing = python is not None and python.passing
    return Missing(f"{found.kind} needs a Python to load the system call filter: {reason}", passing=passing)
