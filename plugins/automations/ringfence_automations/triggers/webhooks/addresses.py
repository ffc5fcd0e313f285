"""The table of webhook addresses: one for each automation that has one. Only digests of their secrets are kept.

A secret has 256 random bits, so its digest tells nothing of it and needs no salt. It is looked up by that digest: how
long a look takes tells at most how many leading bits of a *digest* a guess shares, and nobody can choose those.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

PREFIX = "rfh_"
"""What a secret begins with: logs leave out what looks like one."""

_MAKE = text("""
    INSERT INTO automations_webhooks (automation, digest, created_at, created_by)
    VALUES (:automation, :digest, clock_timestamp(), :by)
    ON CONFLICT (automation) DO UPDATE
       SET digest = excluded.digest, created_at = excluded.created_at, created_by = excluded.created_by,
           last_used_at = NULL
""")
_FIND = text("SELECT automation, digest FROM automations_webhooks WHERE digest = :digest")
_USED = text("""
    UPDATE automations_webhooks SET last_used_at = clock_timestamp()
     WHERE automation = :automation
       AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
""")
_ONE = text(
    "SELECT automation, created_at, created_by, last_used_at FROM automations_webhooks WHERE automation = :automation"
)
_REMOVE = text("DELETE FROM automations_webhooks WHERE automation = :automation RETURNING automation")


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """What may be told of an address: whose it is, since when, and when it was used last."""

    automation: str
    created_at: dt.datetime
    created_by: str
    last_used_at: dt.datetime | None


async def make(session: AsyncSession, automation: str, *, by: str) -> str:
    """A new secret for an automation; one that it has had is void. Nobody is told it again."""
    secret = PREFIX + secrets.token_urlsafe(32)
    await session.execute(_MAKE, {"automation": automation, "digest": _digest(secret), "by": by})
    return secret


async def find(session: AsyncSession, secret: str) -> str | None:
    """The automation whose secret this is."""
    digest = _digest(secret)
    row = (await session.execute(_FIND, {"digest": digest})).one_or_none()
    if row is None or not secrets.compare_digest(row.digest, digest):
        return None
    return str(row.automation)


async def used(session: AsyncSession, automation: str) -> None:
    """Note that an address was used: to the minute."""
    await session.execute(_USED, {"automation": automation})


async def one(session: AsyncSession, automation: str) -> WebhookAddress | None:
    """What is known of an automation's address."""
    row = (await session.execute(_ONE, {"automation": automation})).one_or_none()
    return None if row is None else WebhookAddress(*row)


async def remove(session: AsyncSession, automation: str) -> bool:
    """Have an automation's address lead nowhere any more; False if it has none."""
    return (await session.execute(_REMOVE, {"automation": automation})).one_or_none() is not None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
