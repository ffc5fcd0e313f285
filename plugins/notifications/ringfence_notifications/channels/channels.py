"""The channels in the database, and a copy of them; their addresses are kept by the secrets plugin."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from ringfence import PluginContext
from ringfence.declaring import Held, held, refuse_if_held
from ringfence_secrets.service import KeptValues, Secrets
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.channels.address import filled, kind_of, secret_names
from ringfence_notifications.channels.channel import Channel, ChannelSettings
from ringfence_notifications.hooks import NotificationSettingsChanged, Subject, notification_settings_changed

PLUGIN = "notifications"
KIND = "NotificationChannel"
"""What documents call a channel."""

_COLUMNS = "name, kind, secret_names, settings, updated_at, updated_by, sent_at, failed_at, error"
_ALL = text(f"SELECT {_COLUMNS} FROM notifications_channels ORDER BY name")  # noqa: S608
_SET = text("""
    INSERT INTO notifications_channels (name, kind, secret_names, settings, updated_by)
    VALUES (:name, :kind, :secret_names, CAST(:settings AS jsonb), :by)
    ON CONFLICT (name) DO UPDATE
       SET kind = excluded.kind, secret_names = excluded.secret_names, settings = excluded.settings,
           updated_by = excluded.updated_by, updated_at = clock_timestamp(),
           sent_at = NULL, failed_at = NULL, error = NULL
""")
_ADD = text("""
    INSERT INTO notifications_channels (name, kind, secret_names, settings, updated_by)
    VALUES (:name, :kind, :secret_names, CAST(:settings AS jsonb), :by)
    ON CONFLICT (name) DO NOTHING RETURNING name
""")
_CHANGE = text("""
    UPDATE notifications_channels
       SET settings = CAST(:settings AS jsonb), updated_by = :by, updated_at = clock_timestamp()
     WHERE name = :name AND updated_at = :seen RETURNING name
""")
_REMOVE = text("DELETE FROM notifications_channels WHERE name = :name RETURNING name")
_REMOVE_MESSAGES = text("""
    UPDATE notifications_messages SET status = 'failed', error = 'the channel was removed'
     WHERE channel = :name AND status = 'pending'
""")


class ChannelTakenError(RuntimeError):
    """There is a channel of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a channel {name} already")


class Channels:
    """The channels."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._copy = context.replica(self._load)

    async def all(self) -> Mapping[str, Channel]:
        """Every channel by its name, as this instance knows them. Raises what the database raises."""
        return await self._copy.current()

    async def listed(self) -> Sequence[Channel]:
        """Every channel as it is in the database, by name."""
        return list((await self._load()).values())

    async def held(self, name: str) -> Held | None:
        """Whether a channel is changed elsewhere alone."""
        return await held(self._context, KIND, name)

    def forget_copy(self) -> None:
        """Something was changed: read again what is needed next."""
        self._copy.forget()

    async def set(
        self,
        session: AsyncSession,
        name: str,
        address: str,
        settings: ChannelSettings,
        *,
        is_new: bool = False,
        by: str,
    ) -> None:
        """Add a channel, or change it as a whole. Raises `AddressError`, `SecretError`, and `ChannelTakenError`.

        The last where it `is_new`, and there is one of its name.
        """
        await refuse_if_held(self._context, session, KIND, name)
        values = {
            "name": name,
            "kind": kind_of(address),
            "secret_names": sorted(secret_names(address)),
            "settings": _stored(settings),
            "by": by,
        }
        if not is_new:
            await session.execute(_SET, values)
        elif (await session.execute(_ADD, values)).one_or_none() is None:
            raise ChannelTakenError(name)
        await self._context.services.get(KeptValues).keep(session, PLUGIN, name, address.strip())
        await self._tell(session, name, by=by)

    async def change(
        self, session: AsyncSession, before: Channel, settings: ChannelSettings, *, by: str
    ) -> bool:
        """Change what is wanted of a channel; False if it is not as it was `before` any more."""
        await refuse_if_held(self._context, session, KIND, before.name)
        values = {
            "name": before.name,
            "settings": _stored(settings),
            "by": by,
            "seen": before.updated_at,
        }
        if (await session.execute(_CHANGE, values)).one_or_none() is None:
            return False
        await self._tell(session, before.name, by=by)
        return True

    async def remove(self, session: AsyncSession, name: str, *, by: str) -> bool:
        """Remove a channel and its address; False if there is none of that name. What it has not sent has failed."""
        await refuse_if_held(self._context, session, KIND, name)
        if (await session.execute(_REMOVE, {"name": name})).one_or_none() is None:
            return False
        await session.execute(_REMOVE_MESSAGES, {"name": name})
        await self._context.services.get(KeptValues).forget(session, PLUGIN, name)
        await self._tell(session, name, by=by, removed=True)
        return True

    async def address(self, name: str) -> str:
        """The address of a channel, with the values of its secrets. Never log it. Raises `SecretError`."""
        return await self.with_secrets(await self._context.services.get(KeptValues).value(PLUGIN, name))

    async def with_secrets(self, address: str) -> str:
        """An address with the values of the secrets that it refers to. Raises `SecretError`."""
        return filled(address, await self._context.services.get(Secrets).get(secret_names(address)))

    async def using(self, name: str) -> Sequence[str]:
        """See `SecretUser`: the channels whose addresses refer to a secret."""
        return [f"channel {one.name}" for one in await self.listed() if name in one.secret_names]

    async def used(self) -> Mapping[str, int]:
        """See `SecretUser`."""
        return Counter(name for one in await self.listed() for name in one.secret_names)

    async def _tell(self, session: AsyncSession, name: str, *, by: str, removed: bool = False) -> None:
        fact = NotificationSettingsChanged(subject=Subject.CHANNEL, name=name, removed=removed)
        await self._context.emit_hook(notification_settings_changed, fact, session=session, actor=by)

    async def _load(self) -> Mapping[str, Channel]:
        async with self._context.sessions() as session:
            rows = (await session.execute(_ALL)).all()
        return {
            row.name: Channel(
                row.name,
                row.kind,
                tuple(row.secret_names),
                ChannelSettings.model_validate(row.settings),
                row.updated_at,
                row.updated_by,
                row.sent_at,
                row.failed_at,
                row.error,
            )
            for row in rows
        }


def _stored(settings: ChannelSettings) -> str:
    return json.dumps(settings.model_dump(mode="json", by_alias=True))
