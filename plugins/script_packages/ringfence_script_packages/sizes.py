"""How many bytes, in binary units: as people write them and as they are shown."""

from __future__ import annotations

import re
from typing import Final

UNITS: Final = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SIZE = re.compile(r"(\d+)\s*(KiB|MiB|GiB)")


def read_size(text: str) -> int | None:
    """`256 MiB` in bytes; None for what is not written with a unit."""
    found = _SIZE.fullmatch(text.strip())
    return None if found is None else int(found[1]) * UNITS[found[2]]


def spell_size(count: int) -> str:
    """A number of bytes in the largest unit in which it is a whole number."""
    for unit, size in reversed(UNITS.items()):
        if count and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} bytes"
