"""The wrapper that a host has, as a value that can make rooms."""

from __future__ import annotations

from ringfence.sandbox.capabilities.model import Available, Missing
from ringfence.sandbox.wrappers.bubblewrap import Bubblewrap
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.nsjail import Nsjail
from ringfence.sandbox.wrappers.room import Wrapper


def wrapper_of(
    kind: WrapperKind, found: Available | Missing, python: Available | Missing | None
) -> Wrapper | Missing:
    """The wrapper, with what it needs, or why there is none. `python` is what loads the filter where it cannot."""
    if isinstance(found, Missing):
        return found
    if kind is WrapperKind.BUBBLEWRAP:
        return Bubblewrap(str(found.path), found.roots)
    if isinstance(python, Available):
        return Nsjail(str(found.path), str(python.path))
    reason = python.reason if python is not None else "it was not looked for"
    passing = python is not None and python.passing
    return Missing(reason=f"{kind} needs a Python to load the system call filter: {reason}", passing=passing)
