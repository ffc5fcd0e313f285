"""The settings file: values for settings that the environment does not set.

It is `ringfence.toml` in the data directory, or the file that `RINGFENCE_CONFIG` names. A line is `port = 9000`: the
name is that of the variable, without its `RINGFENCE_` and in small letters. What it says is put into this process's
environment, where everything looks: sandboxes, commands, the host, plugins, and the processes that are started.
Threat: whoever may write it decides which programs run as whom. Mechanism: a file that everybody may write is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from ringfence.process.errors import UsageMistake

VARIABLE = "RINGFENCE_CONFIG"
NAME = "ringfence.toml"
_PREFIX = "RINGFENCE_"
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

    Raises:
        UsageMistake: if the file cannot be read, or says what cannot be a setting.
    """
    global _source
    named = environ.get(VARIABLE)
    path = Path(named).expanduser().absolute() if named else None if data_dir is None else data_dir / NAME
    if path is None or (not named and not os.path.lexists(path)):
        return
    _source = path
    values = read(path)
    if not named and f"{_PREFIX}DATA_DIR" in values:
        raise UsageMistake(
            f"{path} names a data directory, and lies in one itself",
            hint=f"Set RINGFENCE_DATA_DIR in the environment, or name the file with {VARIABLE}.",
        )
    for variable, value in values.items():
        if not environ.get(variable):
            environ[variable] = _applied[variable] = value


def read(path: Path) -> dict[str, str]:
    """The variables that the file sets, and their values as the environment would have them. Raises `UsageMistake`."""
    import tomllib

    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IWOTH:
                raise UsageMistake(
                    f"everybody may write the settings file {path}", hint=f"Fix: chmod o-w {path}"
                )
            document = tomllib.load(file)
    except OSError as error:
        raise UsageMistake(f"cannot read the settings file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no TOML, or no UTF-8
        raise UsageMistake(f"the settings file {path} is not TOML: {error}") from error
    found: dict[str, str] = {}
    for name, value in document.items():
        variable = name.upper() if name.upper().startswith(_PREFIX) else f"{_PREFIX}{name.upper()}"
        if variable in found or variable in _NOT_HERE:
            raise UsageMistake(
                f"the settings file {path} cannot set {name} " + ("twice" if variable in found else "")
            )
        found[variable] = _text(path, name, value)
    return found


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
