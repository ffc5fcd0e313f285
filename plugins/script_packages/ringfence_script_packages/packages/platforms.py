"""The platforms that scripts run on: of the instances, and of whatever else says which it is."""

from __future__ import annotations

import json

from ringfence import PluginContext
from ringfence.scripts.packages.platform import Platform
from sqlalchemy import text

KNOWN_DAYS = 30
"""How long a platform is still fetched for after it was last heard of."""

_SEEN = text("""
    INSERT INTO script_packages_platforms (key, platform) VALUES (:key, CAST(:platform AS jsonb))
    ON CONFLICT (key) DO UPDATE SET seen_at = now() RETURNING (xmax = 0) AS is_new
""")
_KNOWN = text("""
    SELECT platform FROM script_packages_platforms
     WHERE seen_at > now() - make_interval(days => :days) ORDER BY key
""")


class Platforms:
    """Remembers which platforms there are, so that what is installed fits them all."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def seen(self, platform: Platform) -> bool:
        """Note that there is this platform; answers whether it is a new one."""
        document = json.dumps(platform.model_dump(mode="json", by_alias=True))
        async with self._context.sessions.begin() as session:
            row = await session.execute(_SEEN, {"key": platform.key, "platform": document})
            return bool(row.scalar_one())

    async def known(self) -> tuple[Platform, ...]:
        """The platforms that were heard of lately."""
        async with self._context.sessions() as session:
            rows = await session.execute(_KNOWN, {"days": KNOWN_DAYS})
            return tuple(Platform.model_validate(document) for document in rows.scalars())
