"""The policy's history, and the row that is its projection: written together in one transaction, or not at all.

The stream `sandbox-policy` is the truth. The row in `plugin_configs` holds nothing that the newest event does not
say, so it can be lost and made again, byte for byte.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import StrictInt, ValidationError
from ringfence import ConfigError, ConfigSchema, Event, PluginContext, WireModel
from ringfence.declaring import Held, held, refuse_if_held
from ringfence.eventlog import Anchor, WrongExpectedVersionError, read_stream, verify_stream
from ringfence.sandbox.policy import DEFAULT_POLICY, PolicyError, SandboxPolicy, changes, overlay
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_script_packages.hooks import (
    POLICY_STREAM,
    PolicyChange,
    SandboxPolicyChanged,
    sandbox_policy_changed,
)
from ringfence_script_packages.service import PolicyState

KIND, NAME = "SandboxPolicy", "sandbox-policy"
"""What documents call the one policy."""
ATTEMPTS = 100
"""How often a write that names no revision is tried again when another one comes in between. From the second time on it
queues, and only one that has come just now can overtake it: that it loses every time is not to be feared."""
_QUEUE = text("SELECT pg_advisory_xact_lock(hashtextextended('script-packages.sandbox-policy', 0))")


class StoredPolicy(WireModel):
    """The projection: what `plugin_configs` holds."""

    policy: dict[str, Any]
    revision: StrictInt
    updated_at: dt.datetime
    updated_by: str

    def state(self) -> PolicyState:
        """The same, as other plugins see it."""
        return PolicyState(self.policy, self.revision, self.updated_at, self.updated_by)


POLICY_CONFIG = ConfigSchema("sandbox-policy", StoredPolicy, version=1)


class StaleRevisionError(RuntimeError):
    """The policy is no longer at the revision that the writer had read; `current` is what it is now."""

    def __init__(self, expected: int, current: PolicyState) -> None:
        super().__init__(
            f"the sandbox policy is at revision {current.revision}, not {expected}: look at what has changed, "
            "and send the change again with the revision that it is at now"
        )
        self.expected = expected
        self.current = current


class NewerPolicyError(RuntimeError):
    """The stored policy says things that this release does not know, so it cannot be changed in part here."""

    def __init__(self, not_understood: Sequence[str]) -> None:
        super().__init__(
            f"the sandbox policy was written by a newer release; this one does not understand "
            f"{', '.join(not_understood)}: change it with the newer release, or replace it as a whole"
        )


class UnknownRevisionError(LookupError):
    """There is no such revision."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"the sandbox policy has no revision {revision}")


class WrittenPolicy(NamedTuple):
    """What a write came to: the policy that holds now, and whether that is a new revision."""

    state: PolicyState
    changed: bool


@dataclass(frozen=True, slots=True)
class PolicyVerification:
    """What was found: the newest revision and its hash, and the first thing that does not fit (`what`), if any.

    It is about `revision`, or about the stored row where that is None.
    """

    head: Anchor | None
    revision: int | None
    what: str | None


Decide = Callable[[PolicyState], SandboxPolicy]
"""What makes another policy of the one that holds. Raises what cannot be made."""


def replacing(partial: Mapping[str, object]) -> Decide:
    """Puts `partial` over the shipped default. Raises `PolicyError`."""
    return lambda _: overlay(DEFAULT_POLICY, partial)


def amending(partial: Mapping[str, object]) -> Decide:
    """Puts `partial` over the policy that holds. Raises `PolicyError`, `NewerPolicyError`."""

    def amended(current: PolicyState) -> SandboxPolicy:
        if current.received.not_understood:
            raise NewerPolicyError(current.received.not_understood)
        return overlay(current.received.policy, partial)

    return amended


class SandboxPolicies:
    """Reads and writes the one policy. Every write that changes it is a revision, with its actor and reason."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self.written: Callable[[PolicyState], object] = lambda _: None
        """Called with each revision that this instance has written, once it is committed."""
        self.known: Callable[[], PolicyState | None] = lambda: None
        """The policy as this instance knows it without asking the database, if it does."""

    async def current(self) -> PolicyState:
        """The policy as the database has it now."""
        async with self._context.sessions() as session:
            return await self._read(session)

    async def held(self) -> Held | None:
        """Whether it is changed elsewhere alone."""
        return await held(self._context, KIND, NAME)

    async def confirmed(self) -> PolicyState:
        """The policy as the database has it now: read only where that is not what this instance knows."""
        known = self.known()
        if known is not None and await self._context.config_updated_at(POLICY_CONFIG) == known.updated_at:
            return known
        return await self.current()

    async def replace(
        self, partial: Mapping[str, object], *, actor: str, reason: str | None, expected: int | None
    ) -> WrittenPolicy:
        """Write `partial` over the shipped default. Raises `PolicyError` and `StaleRevisionError`."""
        return await self._write(replacing(partial), actor=actor, reason=reason, expected=expected)

    async def amend(
        self, partial: Mapping[str, object], *, actor: str, reason: str | None, expected: int | None
    ) -> WrittenPolicy:
        """Write `partial` over the current policy. Raises `PolicyError`, `StaleRevisionError`, `NewerPolicyError`."""
        return await self._write(amending(partial), actor=actor, reason=reason, expected=expected)

    async def revert(
        self, revision: int, *, actor: str, reason: str | None, expected: int | None
    ) -> WrittenPolicy:
        """Make the policy of an earlier revision (0: the shipped default) the newest one."""
        decide = await self.reverting(revision)
        reason = reason or f"revert to revision {revision}"
        return await self._write(decide, actor=actor, reason=reason, expected=expected)

    async def reverting(self, revision: int) -> Decide:
        """What makes the policy of an earlier revision of any. Raises `UnknownRevisionError`, `NewerPolicyError`."""
        wanted = (await self.at(revision)).received
        if wanted.not_understood:
            raise NewerPolicyError(wanted.not_understood)
        return lambda _: wanted.policy

    async def proposed(self, decide: Decide, *, expected: int | None) -> tuple[PolicyState, SandboxPolicy]:
        """The policy that holds, and what `decide` would make of it. Nothing is written. Raises as a write does."""
        current = await self.confirmed()
        if expected not in {None, current.revision}:
            raise StaleRevisionError(expected or 0, current)
        return current, decide(current)

    async def at(self, revision: int) -> PolicyState:
        """The policy at a revision. Raises `UnknownRevisionError`."""
        if revision == 0:
            return PolicyState.shipped()
        found = await self.history(before=revision + 1, limit=1)
        if not found or found[0].revision != revision:
            raise UnknownRevisionError(revision)
        return _project(found[0]).state()

    async def history(self, *, before: int, limit: int) -> list[SandboxPolicyChanged]:
        """The revisions below `before`, newest first."""
        async with self._context.sessions() as session:
            records = await read_stream(session, POLICY_STREAM, before=before, limit=limit, newest_first=True)
        return [SandboxPolicyChanged.model_validate(record.payload) for record in records]

    async def rebuild(self) -> PolicyState:
        """Make the row again from the stream, whatever it holds now."""
        async with self._context.sessions.begin() as session:
            newest = await self._newest(session)
            if newest is None:
                await self._context.configs.delete(POLICY_CONFIG, session=session)
                return PolicyState.shipped()
            await self._store(session, newest)
            return newest.state()

    async def verify(self, anchor: Anchor | None) -> PolicyVerification:
        """Whether every revision, and the row, are as they were written. See `ringfence.eventlog.history.verify`."""
        async with self._context.sessions() as session:
            # One snapshot, so that a revision written meanwhile is not taken for a row that does not fit.
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            chain = await verify_stream(session, POLICY_STREAM, anchor=anchor)
            if chain.misfit is not None:
                return PolicyVerification(chain.head, chain.misfit.version, chain.misfit.what)
            try:
                newest = await self._newest(session)
                stored = await self._context.configs.get(POLICY_CONFIG, session=session)
            except (ValidationError, ConfigError) as error:
                return PolicyVerification(chain.head, None, f"cannot be read: {type(error).__name__}")
        if newest is not None and chain.head is not None and newest.revision != chain.head.version:
            return PolicyVerification(chain.head, chain.head.version, f"calls itself {newest.revision}")
        if stored is None and newest is not None:
            return PolicyVerification(chain.head, None, "is missing: rebuild it with POST …/rebuild")
        if stored != newest:
            return PolicyVerification(chain.head, None, "is not what the newest revision says")
        return PolicyVerification(chain.head, None, None)

    async def _write(
        self,
        decide: Decide,
        *,
        actor: str,
        reason: str | None,
        expected: int | None,
    ) -> WrittenPolicy:
        """Write what `decide` makes of the current policy.

        A write that expects no revision waits for its turn behind others: only who overtook it makes it try again.
        """
        async with self._context.sessions() as session:
            await refuse_if_held(self._context, session, KIND, NAME)
        if (
            written := await self._write_at_once(decide, actor=actor, reason=reason, expected=expected)
        ) is not None:
            return written
        if expected is not None:
            return await self._write_once(decide, actor=actor, reason=reason, expected=expected)
        for attempt in range(ATTEMPTS):
            with contextlib.suppress(StaleRevisionError):
                return await self._write_once(decide, actor=actor, reason=reason, queued=attempt > 0)
        return await self._write_once(decide, actor=actor, reason=reason, queued=True)

    async def _write_at_once(
        self,
        decide: Decide,
        *,
        actor: str,
        reason: str | None,
        expected: int | None,
    ) -> WrittenPolicy | None:
        """Write what `decide` makes of the policy that this instance knows, in one exchange with the database.

        Nothing is done if the database has another policy; the answer is None then, and for whatever is no plain
        change, which only the database can tell.
        """
        known = self.known()
        if known is None or expected not in {None, known.revision}:
            return None
        try:
            policy = decide(known)
        except (PolicyError, NewerPolicyError):
            return None
        if policy == known.received.policy:
            return None
        payload = _fact(known, policy, actor=actor, reason=reason)
        stored = _project(payload)
        event = await self._context.emit_with_config(
            sandbox_policy_changed,
            payload,
            POLICY_CONFIG,
            stored,
            replaces=known.updated_at,
            updated_at=stored.updated_at,
            expected_version=known.revision,
            actor=actor,
            reason=reason,
        )
        if event is None:
            return None
        state = stored.state()
        self.written(state)
        return WrittenPolicy(state, changed=True)

    async def _write_once(
        self,
        decide: Decide,
        *,
        actor: str,
        reason: str | None,
        expected: int | None = None,
        queued: bool = False,
    ) -> WrittenPolicy:
        async with self._context.sessions() as session:
            try:
                async with session.begin():
                    if queued:
                        await session.execute(_QUEUE)
                    current = await self._read(session)
                    if expected is not None and expected != current.revision:
                        raise StaleRevisionError(expected, current)
                    policy = decide(current)
                    if policy == current.received.policy and not current.received.not_understood:
                        return WrittenPolicy(current, changed=False)
                    event = await self._emit(session, current, policy, actor=actor, reason=reason)
                    stored = _project(event.payload)
                    await self._store(session, stored)
            except WrongExpectedVersionError as error:
                raise StaleRevisionError(error.expected, await self._read(session)) from error
        state = stored.state()
        self.written(state)
        return WrittenPolicy(state, changed=True)

    async def _emit(
        self,
        session: AsyncSession,
        current: PolicyState,
        policy: SandboxPolicy,
        *,
        actor: str,
        reason: str | None,
    ) -> Event[SandboxPolicyChanged]:
        return await self._context.emit_hook(
            sandbox_policy_changed,
            _fact(current, policy, actor=actor, reason=reason),
            session=session,
            expected_version=current.revision,
            actor=actor,
            reason=reason,
        )

    async def _read(self, session: AsyncSession) -> PolicyState:
        """The row; where there is none, the stream; where that is empty, the shipped default.

        A lost row must not stand for "nobody has written a policy".
        """
        stored = await self._context.configs.get(POLICY_CONFIG, session=session) or await self._newest(
            session
        )
        return stored.state() if stored else PolicyState.shipped()

    async def _newest(self, session: AsyncSession) -> StoredPolicy | None:
        records = await read_stream(session, POLICY_STREAM, limit=1, newest_first=True)
        return _project(SandboxPolicyChanged.model_validate(records[0].payload)) if records else None

    async def _store(self, session: AsyncSession, stored: StoredPolicy) -> None:
        await self._context.configs.put(
            POLICY_CONFIG, stored, session=session, updated_by=stored.updated_by, updated_at=stored.updated_at
        )


def _fact(
    current: PolicyState, policy: SandboxPolicy, *, actor: str, reason: str | None
) -> SandboxPolicyChanged:
    return SandboxPolicyChanged(
        revision=current.revision + 1,
        previous_revision=current.revision,
        policy=policy.to_wire(),
        changes=tuple(
            PolicyChange(path=one.path, before=one.before, after=one.after)
            for one in changes(current.received.policy, policy)
        ),
        actor=actor,
        reason=reason,
        changed_at=dt.datetime.now(dt.UTC),
    )


def _project(fact: SandboxPolicyChanged) -> StoredPolicy:
    return StoredPolicy(
        policy=fact.policy, revision=fact.revision, updated_at=fact.changed_at, updated_by=fact.actor
    )
