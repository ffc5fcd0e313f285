"""The digest of JSON, which both sides of the protocol compute alike. Pure."""

from __future__ import annotations

import hashlib
import json


def digest(value: object) -> str:
    """The SHA-256 of JSON, as hexadecimal digits; the order of the keys in its objects makes no difference."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
