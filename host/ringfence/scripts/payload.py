"""The payload of runners that take a context: three parts, one after the other, behind a line with their lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ringfence.scripts.request import ScriptRequest


def encode(request: ScriptRequest, environment: Mapping[str, str]) -> bytes:
    """A script and what it is given, as the bytes that the bootstrap reads.

    They are `<bytes of variables> <bytes of context>`, a line feed, the variables (each ended by NUL), the context as
    JSON (nothing if it is null), and the script.
    """
    variables = b"".join(f"{name}={value}\0".encode() for name, value in environment.items())
    context = b"" if request.context is None else json.dumps(request.context).encode()
    return b"%d %d\n%b%b%b" % (len(variables), len(context), variables, context, request.source)
