"""The payload of runners that take a context: three parts, one after the other, behind a line with their lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def encode(environment: Mapping[str, str], words: Sequence[str], context: object) -> bytes:
    """What a script is given, as the bytes that the bootstrap reads.

    They are `<bytes of variables> <bytes of words> <bytes of context>`, a line feed, the variables (each ended by NUL),
    the script's file and its arguments (the same), and the context as JSON (nothing if it is null).
    """
    variables = b"".join(f"{name}={value}\0".encode() for name, value in environment.items())
    named = b"".join(f"{word}\0".encode() for word in words)
    given = b"" if context is None else json.dumps(context).encode()
    return b"%d %d %d\n%b%b%b" % (len(variables), len(named), len(given), variables, named, given)
