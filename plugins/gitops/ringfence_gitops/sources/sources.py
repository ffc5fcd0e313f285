"""What people do with sources: add, change and remove them, have them followed, release objects from them.

Threat: somebody changes where a source leads, and has it apply with another's rights, or send another's secret there.
Mechanism: a source acts for whoever has written it last, by the token that they hold, with the rules that it holds at
that moment; and who writes one that names secrets needs the rule for having secrets used. Not covered: whoever can
push to the repository does what the source's holder may do; ask for signatures if these are others.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ringfence import PluginContext, TokenHolder
from ringfence.declaring import Owned, declarations
from ringfence.web import Principal, Problem
from ringfence_secrets.service import USE
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_gitops.hooks import (
    GitopsObjectReleased,
    GitopsSourceChanged,
    SourceChange,
    gitops_object_released,
    gitops_source_changed,
    stream_of,
)
from ringfence_gitops.jobs import OfSource, SyncWanted, have_synced, sync_job, tick_job, timetable_of
from ringfence_gitops.remotes.address import AddressError, remote_of
from ringfence_gitops.settings import GitopsSettings
from ringfence_gitops.sources import table
from ringfence_gitops.sources.source import PREFIX, Source, SourceSpec, name_of_owner

WEBHOOK_PREFIX = "rfh_"
"""What a webhook's secret begins with: logs leave out what looks like one."""
HOOKS = "/api/gitops/hooks"
MOST_SOURCES = 200


class Sources:
    """The sources, for whoever may see or change them. All of it raises `Problem`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def page(self, *, after: str = "", limit: int) -> list[Source]:
        """Sources by name."""
        async with self._context.sessions() as session:
            return await table.page(session, after=after, limit=limit)

    async def one(self, name: str) -> Source:
        """The source of this name."""
        try:
            async with self._context.sessions() as session:
                found = await table.named(session, name)
        except table.UnreadableSourceError as error:
            raise Problem(409, detail=str(error)) from error
        if found is None:
            raise no_such_source(name)
        return found

    async def create(self, name: str, spec: SourceSpec, by: Principal) -> Source:
        """Add a source, which is followed at once."""
        holder = await self._holder(spec, by)
        async with self._context.sessions.begin() as session:
            if len(await table.page(session, limit=MOST_SOURCES)) >= MOST_SOURCES:
                raise Problem(409, detail=f"there are {MOST_SOURCES} sources already")
            try:
                made = await table.insert(
                    session, name, spec, acts_for=holder.principal.name, token=holder.token, by=by.name
                )
            except table.SourceTakenError as error:
                raise Problem(409, "The name is taken", detail=str(error)) from error
            await self._have_followed(session, made, SourceChange.CREATED, by)
        return made

    async def change(
        self,
        name: str,
        spec: SourceSpec,
        by: Principal,
        *,
        check: Callable[[SourceSpec], None] = lambda _: None,
    ) -> Source:
        """Change a source as a whole; it acts for whoever does. It is followed at once, if it is enabled.

        What `check` raises of what it is until then leaves it as it is.
        """
        holder = await self._holder(spec, by)
        async with self._context.sessions.begin() as session:
            if (before := await table.named(session, name, is_locked=True)) is not None:
                check(before.spec)
            changed = await table.update(
                session, name, spec, acts_for=holder.principal.name, token=holder.token, by=by.name
            )
            if changed is None:
                raise no_such_source(name)
            await self._have_followed(session, changed, SourceChange.UPDATED, by)
        return changed

    async def remove(self, name: str, by: Principal) -> list[tuple[str, str]]:
        """Follow a source no more. What it has applied stays, and belongs to nobody; the answer is what that is."""
        source = await self.one(name)

        async def begin(session: AsyncSession) -> None:
            if await table.delete(session, name) is None:
                raise no_such_source(name)
            await self._context.remove_timetable(timetable_of(source.id), session=session)
            await self._context.cancel_waiting(sync_job, unique=str(source.id), session=session)
            await self._tell(session, source, SourceChange.REMOVED, by)

        def is_its(kind: str, object_name: str, owned: Owned) -> bool:
            del kind, object_name
            return owned.owner == source.owner

        return await declarations(self._context).disown(is_its, begin=begin)

    async def sync(self, name: str, by: str, *, take_over: bool = False, allow_older: bool = False) -> UUID:
        """Have a source followed at once; the answer is the job's id."""
        source = await self.one(name)
        if not source.spec.enabled:
            raise Problem(409, "The source is disabled", detail=f"{name} is not followed: enable it first")
        wanted = SyncWanted(source=source.id, by=by, take_over=take_over, allow_older=allow_older)
        async with self._context.sessions.begin() as session:
            return await have_synced(self._context, session, wanted)

    async def make_webhook(self, name: str) -> str:
        """The path of a new webhook's address, which is shown this once; the one before is void."""
        secret = WEBHOOK_PREFIX + secrets.token_urlsafe(32)
        async with self._context.sessions.begin() as session:
            if not await table.set_webhook(session, name, digest(secret)):
                raise no_such_source(name)
        return f"{HOOKS}/{secret}"

    async def remove_webhook(self, name: str) -> None:
        """Have a source's webhook lead nowhere any more."""
        async with self._context.sessions.begin() as session:
            if not await table.set_webhook(session, name, None):
                raise no_such_source(name)

    async def objects(self, source: Source) -> Sequence[Mapping[str, Any]]:
        """What a source holds: each object with its kind, name and place."""
        owned = await declarations(self._context).owned()
        return [
            {"kind": kind, "name": name, "place": one.place}
            for (kind, name), one in sorted(owned.items())
            if one.owner == source.owner
        ]

    async def released(self) -> Sequence[Mapping[str, Any]]:
        """What is released, from all sources."""
        async with self._context.sessions() as session:
            rows = await table.released(session)
        return [
            {
                "kind": row.kind,
                "name": row.name,
                "source": row.source,
                "at": row.released_at,
                "by": row.released_by,
                "reason": row.reason,
            }
            for row in rows
        ]

    async def release(self, kind: str, name: str, by: Principal, *, reason: str | None) -> str:
        """Let an object be changed by hand, until it is given back; the answer is the source that it came from."""
        found: list[str] = []

        def is_it(one_kind: str, one_name: str, owned: Owned) -> bool:
            if (one_kind, one_name) != (kind, name) or not owned.source.startswith(PREFIX):
                return False
            found.append(name_of_owner(owned.source))
            return True

        async def end(session: AsyncSession, gone: Sequence[tuple[str, str]]) -> None:
            if not gone:
                detail = f"{kind} {name} does not come from git: see `ringfence gitops show SOURCE`"
                raise Problem(404, "No such object", detail=detail)
            if (source := await table.named(session, found[0])) is not None:
                await table.release(session, kind, name, source.id, by=by.name, reason=reason)
            fact = GitopsObjectReleased(kind=kind, name=name, source=found[0])
            await self._context.emit_hook(
                gitops_object_released,
                fact,
                session=session,
                stream=stream_of(found[0]),
                actor=by.name,
                reason=reason,
            )

        await declarations(self._context).disown(is_it, end=end)
        return found[0]

    async def give_back(self, kind: str, name: str, by: Principal) -> str:
        """Have an object that was released come from git again, from the next time on; the answer is the source."""
        async with self._context.sessions.begin() as session:
            id = await table.give_back(session, kind, name)
            source = None if id is None else await table.one(session, id)
            if source is None:
                raise Problem(404, "No such object", detail=f"{kind} {name} is not released from git")
            fact = GitopsObjectReleased(kind=kind, name=name, source=source.name, given_back=True)
            await self._context.emit_hook(
                gitops_object_released, fact, session=session, stream=stream_of(source.name), actor=by.name
            )
            if source.spec.enabled:
                await have_synced(self._context, session, SyncWanted(source=source.id, by=by.name))
        return source.name

    async def using(self, name: str) -> Sequence[str]:
        """See `SecretUser`: the sources that name a secret."""
        return [
            f"git source {one.name}"
            for one in await self.page(limit=MOST_SOURCES)
            if name in one.spec.secret_names
        ]

    async def used(self) -> Mapping[str, int]:
        """See `SecretUser`."""
        counted: dict[str, int] = {}
        for one in await self.page(limit=MOST_SOURCES):
            for name in one.spec.secret_names:
                counted[name] = counted.get(name, 0) + 1
        return counted

    async def _have_followed(
        self, session: AsyncSession, source: Source, change: SourceChange, by: Principal
    ) -> None:
        """Follow a source from now on, as it says, or no more."""
        await self._tell(session, source, change, by)
        if not source.spec.enabled:
            await self._context.remove_timetable(timetable_of(source.id), session=session)
            await self._context.cancel_waiting(sync_job, unique=str(source.id), session=session)
            return
        await self._context.set_timetable(
            f"{source.spec.interval_seconds}s",
            tick_job,
            OfSource(source=source.id),
            name=timetable_of(source.id),
            session=session,
        )
        await have_synced(self._context, session, SyncWanted(source=source.id, by=by.name))

    async def _holder(self, spec: SourceSpec, by: Principal) -> TokenHolder:
        """Whom it acts for if `by` writes it."""
        try:
            remote_of(spec.url, self._context.own_settings(GitopsSettings).schemes)
        except AddressError as error:
            raise Problem(422, "The source is not valid", detail=f"url: {error}") from None
        if spec.secret_names and not by.holds(USE):
            detail = (
                f"{by.name} does not hold the access rule {USE}, and so cannot have a source shown secrets"
            )
            raise Problem(403, detail=detail, rule=USE)
        holder = await self._context.access.named(by.name)
        if holder is None:
            raise Problem(403, detail=f"there is no live API token {by.name} that the source could act for")
        return holder

    async def _tell(self, session: AsyncSession, source: Source, change: SourceChange, by: Principal) -> None:
        fact = GitopsSourceChanged(
            source=source.name, change=change, definition=source.spec.to_wire(), acts_for=source.acts_for
        )
        await self._context.emit_hook(
            gitops_source_changed, fact, session=session, stream=stream_of(source.name), actor=by.name
        )


def digest(secret: str) -> bytes:
    """What is kept of a webhook's secret. That has 256 random bits, so it needs no salt."""
    return hashlib.sha256(secret.encode()).digest()


def no_such_source(name: str) -> Problem:
    """What is answered to a name that no source has."""
    return Problem(404, "No such source", detail=f"there is no git source {name}", source=name)
