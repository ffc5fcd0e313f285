"""Who caused what, as it is sent along: `traceparent` of W3C Trace Context (Level 1, section 3.2). Pure.

Only version 00 is read, to the letter: what is anything else is nobody's parent.
"""

from __future__ import annotations

import re

_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)


def parsed(given: object) -> tuple[int, int, int] | None:
    """The ids of the trace and of the span, and the flags; None for what is no traceparent."""
    match = _FORM.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        return None
    trace, span, flags = (int(one, 16) for one in match.groups())
    # Of the flags only "sampled" has a meaning.
    return (trace, span, flags & 1) if trace and span else None


def well_formed(given: object) -> str | None:
    """The traceparent, or None for what is none: it costs whoever sends it nothing but the trace."""
    return given if isinstance(given, str) and parsed(given) is not None else None
