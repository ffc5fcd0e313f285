"""Names that somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_ALIKE = 0.6
"""How much of a name must be the same for it to be taken for a slip (see `difflib`)."""
MOST_NAMED = 12
"""How many names a message lists."""


def near(name: str, names: Collection[str]) -> str:
    """What to say of names that are there when `name` is not: the one that was meant, or all of them."""
    if found := difflib.get_close_matches(name, sorted(names), n=1, cutoff=_ALIKE):
        return f"did you mean {found[0]}?"
    if not names:
        return "there is none"
    listed = sorted(names)
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return f"there is {', '.join(listed[:MOST_NAMED])}{more}"
