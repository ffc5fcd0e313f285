"""The tokens of satellites: made here, shown once, and kept as a digest.

Threat: whoever reads the database, or measures how long a refusal takes, must not learn a token or which satellites
exist. Mechanism: a token is 256 random bits, so that its SHA-256 digest can be kept and cannot be searched for; a slow
hash would buy nothing, and would make minutes of ten thousand reconnects. Digests are compared in constant time, and a
satellite that is not known costs the same comparison. What this does not cover: a token is as secret as the file and
the connection that it is in.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

TOKEN_BYTES = 32
_NOBODY = hashlib.sha256(secrets.token_bytes(TOKEN_BYTES)).digest()
"""What a token is compared with when there is no such satellite: a digest that nobody has a token for."""


def new_token() -> str:
    """A token that nobody has had before, as URL-safe text."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """What is kept of a token: 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def matches(token: str, stored: bytes | None) -> bool:
    """Whether `token` is the one that `stored` is the digest of. None: there is no such satellite, so it is not."""
    equal = hmac.compare_digest(digest(token), _NOBODY if stored is None else stored)
    return equal and stored is not None
