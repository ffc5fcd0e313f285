"""Follows one source: its newest commit is fetched, and what that declares is applied, all of it or nothing.

The commit, and what has changed, are written in the transaction in which it is applied, and only if the source is still
as it was when its repository was looked at: one that was changed or removed meanwhile is left to whoever has done that.
So it does not matter when an instance dies; whoever takes over begins anew, and what holds already makes no event.
"""

from __future__ import annotations

from pathlib import Path

from ringfence import JobFailed, PluginContext, RunningJob
from ringfence.declaring import Applied, Wanted, WrongFilesError, declarations
from ringfence.metrics import Counts
from ringfence.web import Principal, Problem
from ringfence_secrets.service import SecretError, Secrets
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_gitops.hooks import gitops_failed, gitops_synced, stream_of
from ringfence_gitops.jobs import OfSource, SyncWanted, have_synced
from ringfence_gitops.remotes import fetching
from ringfence_gitops.remotes.address import AddressError, remote_of
from ringfence_gitops.remotes.commit import SHORT, Commit
from ringfence_gitops.remotes.environment import Credentials
from ringfence_gitops.remotes.fetching import Bounds, Repository
from ringfence_gitops.remotes.git import RemoteError
from ringfence_gitops.remotes.signatures import Signers
from ringfence_gitops.settings import GitopsSettings
from ringfence_gitops.sources import table
from ringfence_gitops.sources.source import Deletion, Source, Status
from ringfence_gitops.syncing.kept import Checkout, Kept
from ringfence_gitops.syncing.outcome import (
    Failure,
    changes_of,
    failed,
    objects_of,
    synced,
    warnings_of,
    wrong_files,
)


class _SupersededError(Exception):
    """The source was changed or removed meanwhile: nothing is done with what was fetched."""


class Syncing:
    """Does the jobs."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._kept = Kept()
        self.ended = Counts()
        self.drifted = Counts()

    @property
    def room(self) -> Path:
        """Where fetches are."""
        return self._context.settings.data_dir / "gitops"

    async def on_tick(self, job: RunningJob[OfSource], session: AsyncSession) -> None:
        """Have a source followed."""
        await have_synced(self._context, session, SyncWanted(source=job.payload.source))

    async def on_job(self, job: RunningJob[SyncWanted], session: AsyncSession) -> None:
        """Follow a source."""
        del session  # It is one of two that all handlers share, and this takes long.
        try:
            async with self._context.sessions() as own:
                source = await table.one(own, job.payload.source)
        except table.UnreadableSourceError as error:
            raise JobFailed(str(error)) from error
        if source is None or not source.spec.enabled:
            return
        commit: str | None = None
        try:
            principal = await self._principal(source)
            checkout = await self._checkout(source)
            commit = checkout.commit.id
            self._check_age(source, checkout.commit, allow_older=job.payload.allow_older)
            await self._apply(source, checkout, principal, job.payload)
        except _SupersededError:
            return
        except WrongFilesError as error:
            await self._fail(source, wrong_files(error, commit or ""))
        except (RemoteError, SecretError, Problem) as error:
            await self._fail(source, failed(str(error), commit))
        else:
            self.ended.add("synced")

    async def _principal(self, source: Source) -> Principal:
        found = await self._context.access.principal(source.token)
        if found is None:
            raise RemoteError(
                f"it acts for {source.acts_for}, whose API token has ended: save it anew with another"
            )
        return found

    async def _checkout(self, source: Source) -> Checkout:
        """The files of the newest commit. Raises `RemoteError` and `SecretError`."""
        settings = self._context.own_settings(GitopsSettings)
        spec = source.spec
        try:
            remote = remote_of(spec.url, settings.schemes)
        except AddressError as error:
            raise RemoteError(str(error)) from None
        wanted = fetching.Wanted(
            remote,
            spec.branch,
            spec.path,
            await self._credentials(source),
            Signers(spec.allowed_signers, spec.gpg_keys),
        )
        bounds = Bounds(settings.timeout_seconds, settings.most_bytes, settings.allow_link_local)
        try:
            async with Repository(wanted, bounds, self.room) as repository:
                newest = await repository.newest()
                if (kept := self._kept.get(source.id, source.revision, newest)) is not None:
                    return kept
                fetched = await repository.fetched(newest)
                files = await fetched.texts(fetched.tree.documents())
                needs = await declarations(self._context).needs(files)
                files |= await fetched.texts(needs)
        except OSError as error:
            raise RemoteError(f"git cannot be run: {error.strerror or type(error).__name__}") from error
        checkout = Checkout(fetched.commit, fetched.signer, files)
        self._kept.keep(source.id, source.revision, checkout)
        return checkout

    async def _credentials(self, source: Source) -> Credentials:
        spec = source.spec
        named = [one for one in (spec.token_secret, spec.ssh_key_secret) if one is not None]
        values = await self._context.services.get(Secrets).get(named) if named else {}
        return Credentials(
            username=spec.username,
            token=None if spec.token_secret is None else values[spec.token_secret].strip(),
            ssh_key=None if spec.ssh_key_secret is None else values[spec.ssh_key_secret],
            known_hosts=spec.known_hosts,
        )

    def _check_age(self, source: Source, commit: Commit, *, allow_older: bool) -> None:
        """Refuse to go back to an older signed commit: its signer approved it then, and not now."""
        before = source.committed_at
        is_signed = Signers(source.spec.allowed_signers, source.spec.gpg_keys).are_asked_for
        if not is_signed or allow_older or before is None or commit.at >= before:
            return
        raise RemoteError(
            f"commit {commit.id[:SHORT]} is older than commit {(source.commit or '')[:SHORT]}, which holds: "
            f"if the branch is to go back, ringfence gitops sync {source.name} --allow-older"
        )

    async def _apply(
        self, source: Source, checkout: Checkout, principal: Principal, asked: SyncWanted
    ) -> None:
        """Have a commit hold. Raises `WrongFilesError`, `Problem` and `_SupersededError`."""
        commit = checkout.commit
        is_pruned = source.spec.deletion is Deletion.PRUNE
        async with self._context.sessions() as session:
            released = [(row.kind, row.name) for row in await table.released(session)]
        wanted = Wanted(
            checkout.files,
            source=f"{source.owner}@{commit.id}",
            reason=commit.reason,
            prune=is_pruned,
            orphan=not is_pruned,
            take_over=asked.take_over,
            leave=released,
        )

        async def begin(session: AsyncSession) -> None:
            if not await table.is_current(session, source):
                raise _SupersededError

        async def end(session: AsyncSession, applied: Applied) -> None:
            values = {
                "commit": commit.id,
                "subject": commit.subject,
                "author": commit.author,
                "signer": checkout.signer,
                "committed_at": commit.at,
                "objects": objects_of(applied),
                "findings": warnings_of(applied),
            }
            await table.note_synced(session, source, values)
            is_news = source.commit != commit.id or source.status is not Status.SYNCED
            if is_news or changes_of(applied):
                await self._context.emit_hook(
                    gitops_synced,
                    synced(source, commit, applied),
                    session=session,
                    stream=stream_of(source.name),
                    actor=principal.name,
                    reason=commit.reason,
                )

        applied = await declarations(self._context).apply(wanted, principal, begin=begin, end=end)
        for one in applied.outcomes:
            if one.is_drift:
                self.drifted.add()

    async def _fail(self, source: Source, failure: Failure) -> None:
        self.ended.add("failed")
        async with self._context.sessions.begin() as session:
            if not await table.is_current(session, source):
                return
            now = await table.one(session, source.id)
            await table.note_failed(session, source, failure.error, failure.findings)
            if now is not None and now.error == failure.error:
                return
            await self._context.emit_hook(
                gitops_failed, failure.to_fact(source), session=session, stream=stream_of(source.name)
            )
        self._context.logger.warning(
            "a git source cannot be followed", source=source.name, error=failure.error
        )
