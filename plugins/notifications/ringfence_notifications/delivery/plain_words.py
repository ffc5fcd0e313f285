"""What a service or the network says of a failure, in plain words where it is one of the common ones. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

WIKI = "https://github.com/caronc/apprise/wiki"

_WORDS = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (r"Connection refused", "the connection was refused: is the address right, and the service running?"),
        (
            r"Name or service not known|Failed to resolve|No address associated|Temporary failure in name resolution",
            "the name of its machine cannot be resolved",
        ),
        (r"No route to host|Network is unreachable", "its machine cannot be reached from here"),
        (r"timed out|timeout", "it did not answer in time"),
        (r"certificate verify failed", "its certificate is not valid, or not known here"),
        (r"\(535, |authentication failed|\b401\b", "it does not take the user or the password"),
        (r"error=40[34]\b", "it does not know the address, or does not let it in"),
        (r"error=429\b", "it has had too many messages lately"),
        (r"error=5\d\d\b", "it has a fault of its own, or is overloaded"),
    )
)


def in_plain_words(said: str) -> str:
    """What is wrong in plain words, with what was said behind it if that is short enough to be read."""
    for pattern, words in _WORDS:
        if pattern.search(said):
            return words if len(said) > 120 else f"{words} ({said})"
    return said


def not_an_address(kind: str, forms: Sequence[str]) -> str:
    """What is wrong with an address of a kind. `forms`: how such ones are written; none: there is no such kind."""
    if not forms:
        return f"{kind}:// is no kind of address that Apprise knows: the kinds are at {WIKI}"
    written = " or ".join(forms)
    return f"the address is not complete, or not written as {kind}:// wants it, such as {written}: see {WIKI}"
