"""The fleet as an admin changes it, each change with its event.

Satellites are made, renamed, given new tokens and deleted.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from uuid import UUID

from ringfence import PluginContext
from sqlalchemy.exc import IntegrityError

from ringfence_satellite.hooks import (
    SatelliteChanged,
    SatelliteDeleted,
    SatelliteRegistered,
    SatelliteTokenRotated,
    satellite_changed,
    satellite_deleted,
    satellite_registered,
    satellite_token_rotated,
    stream_of,
)
from ringfence_satellite.server import satellites
from ringfence_satellite.server.satellites import DEFAULT_OFFLINE_AFTER_SECONDS, Satellite
from ringfence_satellite.server.tokens import digest, new_token


class NameTakenError(ValueError):
    """Another satellite has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a satellite named {name} already")


class Registrar:
    """Every change is one transaction that holds the row and the event, so that each instance hears of it."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def create(
        self,
        *,
        name: str,
        region: str,
        tags: Sequence[str],
        offline_after_seconds: float = DEFAULT_OFFLINE_AFTER_SECONDS,
        by: str,
    ) -> tuple[Satellite, str]:
        """Register a satellite; the answer has its token, which cannot be had again. Raises `NameTakenError`."""
        token = new_token()
        async with self._context.sessions.begin() as session:
            satellite = await satellites.insert(
                session,
                id=uuid.uuid4(),
                name=name,
                region=region,
                tags=_distinct(tags),
                offline_after_seconds=offline_after_seconds,
                digest=digest(token),
                by=by,
            )
            if satellite is None:
                raise NameTakenError(name)
            fact = SatelliteRegistered(
                satellite_id=satellite.id, name=name, region=region, tags=tuple(satellite.tags)
            )
            await self._context.emit_hook(
                satellite_registered, fact, session=session, stream=stream_of(satellite.id), actor=by
            )
        return satellite, token

    async def change(
        self,
        id: UUID,
        *,
        name: str | None = None,
        region: str | None = None,
        tags: Sequence[str] | None = None,
        offline_after_seconds: float | None = None,
        by: str,
    ) -> Satellite | None:
        """Change what is given; None when there is no such satellite. Raises `NameTakenError`."""
        try:
            async with self._context.sessions.begin() as session:
                satellite = await satellites.update(
                    session,
                    id,
                    name=name,
                    region=region,
                    tags=None if tags is None else _distinct(tags),
                    offline_after_seconds=offline_after_seconds,
                )
                if satellite is None:
                    return None
                fact = SatelliteChanged(
                    satellite_id=id,
                    name=satellite.name,
                    region=satellite.region,
                    tags=tuple(satellite.tags),
                    offline_after_seconds=satellite.offline_after_seconds,
                )
                await self._context.emit_hook(
                    satellite_changed, fact, session=session, stream=stream_of(id), actor=by
                )
        except IntegrityError as error:
            raise NameTakenError(str(name)) from error
        return satellite

    async def rotate_token(self, id: UUID, *, by: str) -> tuple[Satellite, str] | None:
        """Replace a satellite's token.

        Every connection that was let in by the old one is closed, on any instance.
        """
        token = new_token()
        async with self._context.sessions.begin() as session:
            satellite = await satellites.rotate(session, id, digest(token))
            if satellite is None:
                return None
            await self._context.emit_hook(
                satellite_token_rotated,
                SatelliteTokenRotated(satellite_id=id),
                session=session,
                stream=stream_of(id),
                actor=by,
            )
        return satellite, token

    async def delete(self, id: UUID, *, by: str) -> bool:
        """Remove a satellite and close its connections, on any instance. False when there is none."""
        async with self._context.sessions.begin() as session:
            name = await satellites.delete(session, id)
            if name is None:
                return False
            await self._context.emit_hook(
                satellite_deleted,
                SatelliteDeleted(satellite_id=id, name=name),
                session=session,
                stream=stream_of(id),
                actor=by,
            )
        return True


def _distinct(tags: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(tags))
