"""The settings file: values for settings that the environment does not set.

It is `ringfence.toml` in the data directory, or the file that `RINGFENCE_CONFIG` names. A line is `port = 9000`: the
name is that of the variable, without its `RINGFENCE_` and in small letters. What it says is put into this process's
environment, where everything looks: sandboxes, commands, the host, plugins, and the processes that are started.
Threat: whoever may write it decides which programs run as whom. Mechanism: a file that another user owns, or everybody
may write, is refused; so is one that a group may write, if the process is root's. Not covered: a directory on the way
to it that others may write.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from ringfence.process.errors import UsageMistake

VARIABLE = "RINGFENCE_CONFIG"
NAME = "ringfence.toml"
_PREFIX = "RINGFENCE_"
LARGEST_FILE = 1024 * 1024
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NOT_HERE = frozenset({VARIABLE})

_applied: dict[str, str] = {}
_source: Path | None = None


def source() -> Path | None:
    """The file that was read; None if there is none."""
    return _source


def applied() -> Mapping[str, str]:
    """What this process has from the file: variables, and their values."""
    return _applied


def apply(data_dir: Path | None, environ: MutableMapping[str, str] = os.environ) -> None:
    """Set what the file says and the environment does not. A variable that is set to nothing is not set.

    What another file has said before holds no longer.

    Raises:
        UsageMistake: if the file cannot be read, or says what cannot be a setting.
    """
    global _source
    for variable, value in _applied.items():
        if environ.get(variable) == value:
            del environ[variable]
    _applied.clear()
    _source = None
    named = environ.get(VARIABLE)
    path = Path(named).expanduser().absolute() if named else None if data_dir is None else data_dir / NAME
    # One that cannot be read, in somebody else's data directory, is for the host of theirs.
    if path is None or (not named and not os.access(path, os.R_OK)):
        return
    _source = path
    values = read(path)
    if not named and f"{_PREFIX}DATA_DIR" in values:
        raise UsageMistake(
            f"the settings file {path} sets data_dir, but it is in a data directory itself",
            hint=f"Set RINGFENCE_DATA_DIR in the environment, or name the file with {VARIABLE}.",
        )
    for variable, value in values.items():
        if not environ.get(variable):
            environ[variable] = _applied[variable] = value


def read(path: Path) -> dict[str, str]:
    """The variables that the file sets, and their values as the environment would have them. Raises `UsageMistake`."""
    import tomllib

    try:
        with open(path, "rb", opener=_at_once) as file:
            _check_ours(path, os.fstat(file.fileno()))
            document = tomllib.load(file)
    except OSError as error:
        raise UsageMistake(f"cannot read the settings file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no TOML, or no UTF-8
        raise UsageMistake(f"the settings file {path} is not TOML: {error}") from error
    found: dict[str, str] = {}
    for name, value in document.items():
        if not _NAME.fullmatch(name):
            raise UsageMistake(f"the settings file {path} names {name!r}, which cannot be a setting")
        variable = name.upper() if name.upper().startswith(_PREFIX) else f"{_PREFIX}{name.upper()}"
        if variable in found or variable in _NOT_HERE:
            raise UsageMistake(
                f"the settings file {path} cannot set {name} " + ("twice" if variable in found else "")
            )
        found[variable] = _text(path, name, value)
    return found


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for anybody, as a named pipe would have us do."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _check_ours(path: Path, found: os.stat_result) -> None:
    """Raise `UsageMistake` if somebody else may decide what the file says."""
    us = os.geteuid()
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE:
        raise UsageMistake(f"the settings file {path} is not a regular file of at most {LARGEST_FILE} bytes")
    if found.st_uid not in {0, us}:
        raise UsageMistake(
            f"the settings file {path} belongs to uid {found.st_uid}, but this process runs as uid {us}",
            hint=f"Run this as uid {found.st_uid}, or give the file another owner: chown {us} {path}",
        )
    if found.st_mode & stat.S_IWOTH:
        raise UsageMistake(f"everybody may write the settings file {path}", hint=f"Fix: chmod o-w {path}")
    if us == 0 and found.st_mode & stat.S_IWGRP and found.st_gid != 0:
        raise UsageMistake(
            f"group {found.st_gid} may write the settings file {path}", hint=f"Fix: chmod g-w {path}"
        )


def _text(path: Path, name: str, value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str() if "\0" not in value:
            return value
        case int() | float():
            return str(value)
    raise UsageMistake(
        f"the settings file {path} must give {name} one value: a text, a number, true or false"
    )
