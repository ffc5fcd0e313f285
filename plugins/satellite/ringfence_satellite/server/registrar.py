"""The fleet as an admin changes it, each change with its event.

Satellites are made, renamed, given new tokens and deleted.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.declaring import refuse_if_held
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
from ringfence_satellite.server.profile import Profile
from ringfence_satellite.server.satellites import DEFAULT_OFFLINE_AFTER_SECONDS, Satellite
from ringfence_satellite.server.tokens import digest, new_token

KIND = "Satellite"
"""What documents call a satellite."""


class NameTakenError(ValueError):
    """Another satellite has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"a satellite named {name} already exists")


class Registrar:
    """Every change is one transaction that holds the row and the event, so that each instance hears of it."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def create(
        self,
        profile: Profile,
        *,
        offline_after_seconds: float = DEFAULT_OFFLINE_AFTER_SECONDS,
        to_be_claimed: bool = False,
        by: str,
    ) -> tuple[Satellite, str]:
        """Register a satellite; the answer has its token, which cannot be had again. Raises `NameTakenError`.

        One that is `to_be_claimed` is for nobody's token yet: the caller forgets the one in the answer.
        """
        token = new_token()
        async with self._context.sessions.begin() as session:
            await refuse_if_held(self._context, session, KIND, profile.name)
            satellite = await satellites.insert(
                session,
                id=uuid.uuid4(),
                profile=profile,
                offline_after_seconds=offline_after_seconds,
                digest=digest(token),
                by=by,
            )
            if satellite is None:
                raise NameTakenError(profile.name)
            if to_be_claimed:
                await satellites.give_no_token(session, satellite.id)
            fact = SatelliteRegistered(satellite_id=satellite.id, **_told(satellite))
            await self._context.emit_hook(
                satellite_registered, fact, session=session, stream=stream_of(satellite.id), actor=by
            )
        return satellite, token

    async def change(
        self,
        id: UUID,
        amend: Callable[[Satellite], Profile],
        *,
        offline_after_seconds: float | None = None,
        by: str,
    ) -> Satellite | None:
        """Describe a satellite as `amend` makes it of what it is; None when there is no such satellite.

        What `amend` raises leaves everything as it is. Nobody else changes it meanwhile. Raises `NameTakenError`.
        """
        name = ""
        try:
            async with self._context.sessions.begin() as session:
                before = await satellites.locked(session, id)
                if before is None:
                    return None
                after = amend(before)
                for one in {before.name, after.name}:
                    await refuse_if_held(self._context, session, KIND, one)
                name = after.name
                satellite = await satellites.update(
                    session, id, after, offline_after_seconds=offline_after_seconds
                )
                fact = SatelliteChanged(
                    satellite_id=id,
                    **_told(satellite),
                    offline_after_seconds=satellite.offline_after_seconds,
                )
                await self._context.emit_hook(
                    satellite_changed, fact, session=session, stream=stream_of(id), actor=by
                )
        except IntegrityError as error:
            raise NameTakenError(name) from error
        return satellite

    async def rotate_token(self, id: UUID, *, claim: bool = False, by: str) -> tuple[Satellite, str] | None:
        """Replace a satellite's token; with `claim`, only if nobody was given one yet. None otherwise.

        Every connection that was let in by the old one is closed, on any instance.
        """
        token = new_token()
        async with self._context.sessions.begin() as session:
            satellite = await satellites.rotate(session, id, digest(token), claim=claim)
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
            await refuse_if_held(self._context, session, KIND, name)
            await self._context.emit_hook(
                satellite_deleted,
                SatelliteDeleted(satellite_id=id, name=name),
                session=session,
                stream=stream_of(id),
                actor=by,
            )
        return True


def _told(satellite: Satellite) -> dict[str, Any]:
    return {
        "name": satellite.name,
        "region": satellite.region,
        "tags": tuple(satellite.tags),
        "labels": satellite.labels,
        "vars": satellite.vars,
    }
