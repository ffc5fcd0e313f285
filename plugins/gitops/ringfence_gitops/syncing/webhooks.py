"""What comes to a source's webhook: who may ask, how often, and with what.

Threat: whoever guesses addresses, floods the host, or has got hold of an address alone. Mechanism: an address is a
secret of 256 bits; peers that ask for others than there are, and addresses that are used too often, have to wait;
bodies are read up to a bound, and nothing in them is believed: a request says no more than "look now"; and where the
source names a secret, the request is signed with it, or shows it. Not covered: a request that somebody replays, which
has the repository looked at once more; each instance counts for itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Mapping

from ringfence import PluginContext
from ringfence.web import Allowances, Problem, read_body
from ringfence_secrets.service import SecretError, Secrets

from ringfence_gitops.jobs import SyncWanted, have_synced
from ringfence_gitops.sources import table
from ringfence_gitops.sources.source import Source
from ringfence_gitops.sources.sources import digest

MOST_BYTES = 1024 * 1024
STRANGERS = (20.0, 0.5)
"""How many addresses that lead nowhere a peer may ask for at once, and then each second."""
CALLS = (20.0, 0.2)
"""How often an address may be used at once, and then each second."""
SIGNED = ("x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature", "x-gogs-signature")
"""Headers with HMAC-SHA256 of the body, in hexadecimal digits."""
SHOWN = "x-gitlab-token"
"""A header with the secret itself."""
_SIGNATURE = re.compile(r"(?:sha256=)?([0-9a-f]{64})", re.IGNORECASE)


class Webhooks:
    """Takes requests."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._strangers = Allowances(*STRANGERS)
        self._calls = Allowances(*CALLS)

    async def receive(
        self, secret: str, headers: Mapping[str, str], peer: str, body: AsyncIterator[bytes]
    ) -> str:
        """Have the source followed to which the address leads; answers its name. Raises `Problem`."""
        now = time.monotonic()
        self._strangers.check(peer, now)
        async with self._context.sessions() as session:
            source = await table.of_webhook(session, digest(secret))
        if source is None or not source.spec.enabled:
            self._strangers.take(peer, now)
            raise Problem(404, detail="this address leads nowhere")
        self._calls.check(source.name, now)
        self._calls.take(source.name, now)
        whole = await read_body(body, most=MOST_BYTES, declared=headers.get("content-length"))
        if source.spec.webhook_secret is not None:
            await self._check_signed(source, source.spec.webhook_secret, headers, whole)
        async with self._context.sessions.begin() as session:
            await table.note_webhook(session, source)
            await have_synced(self._context, session, SyncWanted(source=source.id, by="webhook"))
        return source.name

    async def _check_signed(self, source: Source, name: str, headers: Mapping[str, str], body: bytes) -> None:
        try:
            key = (await self._context.services.get(Secrets).get([name]))[name]
        except SecretError as error:
            self._context.logger.error(
                "a webhook's signature cannot be checked", source=source.name, error=str(error)
            )
            raise Problem(503, detail="the signature cannot be checked at the moment") from error
        if not is_signed(headers, body, key):
            raise Problem(401, detail="the request is not signed as this webhook wants it")


def is_signed(headers: Mapping[str, str], body: bytes, key: str) -> bool:
    """Whether a request is signed with a key, or shows it. Takes as long for a near miss as for any."""
    if not key:
        # Anybody can sign with no key.
        return False
    if (shown := headers.get(SHOWN)) is not None:
        return hmac.compare_digest(shown.encode(), key.encode())
    found = _SIGNATURE.fullmatch(next((headers[one] for one in SIGNED if one in headers), "").strip())
    wanted = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return found is not None and hmac.compare_digest(wanted, found[1].lower())
