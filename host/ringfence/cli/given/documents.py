"""JSON objects that a command line gives: in a file, or on standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from ringfence.process.errors import UsageMistake

LARGEST_FILE = 4 * 1024 * 1024
"""No policy is this large; what is larger is some other file."""


def read_object(source: str, stdin: IO[bytes]) -> dict[str, Any]:
    """The JSON object in the file `source`, or on `stdin` for `-`. Raises `UsageMistake` if there is none."""
    if source == "-":
        return parse_object(stdin.read(LARGEST_FILE + 1), "standard input")
    try:
        with Path(source).open("rb") as file:
            return parse_object(file.read(LARGEST_FILE + 1), source)
    except OSError as error:
        raise UsageMistake(f"cannot read {source}: {error.strerror}") from error
    except ValueError as error:  # a name with a zero byte
        raise UsageMistake(f"cannot read {source!r}: {error}") from error


def parse_object(data: bytes, source: str) -> dict[str, Any]:
    """The JSON object that `data` is; `source` is what an error calls it. Raises `UsageMistake`."""
    if len(data) > LARGEST_FILE:
        raise UsageMistake(f"{source} is larger than {LARGEST_FILE} bytes, which is too large for a policy")
    try:
        value = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UsageMistake(f"{source} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageMistake(f"{source} must hold a JSON object, not {type(value).__name__}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """What a host refuses, too, and would not get to see: of two values with one name only the last would be sent."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:100]!r} stands twice in one object")
        found[name] = value
    return found
