"""How a webhook is signed: HMAC-SHA256 of the body in a header, as GitHub does it. Pure.

`X-Hub-Signature-256: sha256=<64 hexadecimal digits>`:
https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
"""

from __future__ import annotations

import hashlib
import hmac
import re

_SIGNATURE = re.compile(r"(?:sha256=)?([0-9a-f]{64})", re.IGNORECASE)


def is_signed(body: bytes, given: str | None, key: str) -> bool:
    """Whether a header says what the body's signature with this key is. Takes as long for a near miss as for any."""
    found = _SIGNATURE.fullmatch((given or "").strip())
    if found is None or not key:
        # Anybody can sign with no key.
        return False
    return hmac.compare_digest(sign(body, key), found[1].lower())


def sign(body: bytes, key: str) -> str:
    """The signature, in hexadecimal digits."""
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
