"""The secrets of a run of an automation: who may have them, what is remembered of them, and what is masked.

Threat: a secret that one step was given is told by the output of another, by an error, an artifact or a message, also
after the run has moved to another instance. Mechanism: before a value is given out, its name is recorded as one of the
run's, in a transaction of its own. Whatever a step of the run gives back is masked with the values of all names that
are recorded, which are fetched anew; if they cannot be, what the step gave back is not kept. Values that were seen
here stay in the memory of this instance, so that one which is changed during the run is masked as it was, too. Not
covered: the old value of a secret that was changed or deleted while the run moved to another instance, for it is known
nowhere any more (a digest of it would find no stretch of a text, and would help to guess it); what a script encodes
(`masking`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from ringfence import PluginContext
from ringfence.redaction import describe
from ringfence.scripts import Mask
from ringfence.web import Principal
from ringfence_secrets.service import USE, MissingSecretsError, SecretError, Secrets
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ringfence_automations.service import StepFailed, StepResult

MOST_RUNS = 1000
"""Of how many runs the values are known at once; those of others are fetched anew."""
_RECORD = text("""
    INSERT INTO automations_run_secrets (run, name) SELECT :run, unnest(CAST(:names AS text[])) ON CONFLICT DO NOTHING
""")
_RECORDED = text("SELECT name FROM automations_run_secrets WHERE run = :run")


@dataclass(frozen=True, slots=True)
class MaskedResult(StepResult):
    """The end of a step whose secrets are masked already: by `mask`, which was fetched when its script had ended."""

    mask: Mask = field(default_factory=lambda: Mask(()))


class RunSecrets:
    """Gives the secrets of runs, and masks them."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        # Of each run by name every value that was seen: one that is changed meanwhile is masked all the same.
        self._known: OrderedDict[UUID, dict[str, set[str]]] = OrderedDict()

    async def give(self, run: UUID, principal: Principal, names: Collection[str]) -> Mapping[str, str]:
        """The values of these secrets, for a step of the run. Raises `StepFailed`."""
        if not names:
            return {}
        if not principal.holds(USE):
            raise StepFailed(
                f"{principal.name}, for whom the automation acts, does not hold {USE} (any more)"
            )
        async with self._context.sessions.begin() as session:
            await session.execute(_RECORD, {"run": run, "names": sorted(names)})
        try:
            values = await self._context.services.get(Secrets).get(names)
        except SecretError as error:
            raise StepFailed(_said(error)) from error
        self._remember(run, values)
        return values

    async def mask(self, run: UUID) -> Mask:
        """What masks the secrets that steps of the run were given so far. Raises `StepFailed` if it cannot be had."""
        try:
            # A statement by itself: BEGIN and ROLLBACK would be exchanges of their own.
            async with self._context.sessions() as session:
                await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
                names = frozenset((await session.execute(_RECORDED, {"run": run})).scalars())
        except (SQLAlchemyError, OSError) as error:
            raise StepFailed(f"the run's secrets cannot be masked: {describe(error)}") from error
        if names:
            # Also of those that are known: another instance may have given one that was changed since.
            self._remember(run, await self._fetched(names))
        return Mask(value for values in self._known.get(run, {}).values() for value in values)

    def forget(self, run: UUID) -> None:
        """The run has ended, and nothing of it is masked any more."""
        self._known.pop(run, None)

    async def _fetched(self, names: Collection[str]) -> Mapping[str, str]:
        secrets = self._context.services.get(Secrets)
        try:
            return await secrets.get(names)
        except MissingSecretsError as error:
            # What was deleted has no value any more that could be masked.
            left = frozenset(names) - frozenset(error.names)
            try:
                return await secrets.get(left) if left else {}
            except SecretError as again:
                raise StepFailed(f"the run's secrets cannot be masked: {again}") from again
        except SecretError as error:
            raise StepFailed(f"the run's secrets cannot be masked: {error}") from error

    def _remember(self, run: UUID, values: Mapping[str, str]) -> None:
        known = self._known.setdefault(run, {})
        self._known.move_to_end(run)
        for name, value in values.items():
            known.setdefault(name, set()).add(value)
        while len(self._known) > MOST_RUNS:
            self._known.popitem(last=False)


def _said(error: SecretError) -> str:
    if isinstance(error, MissingSecretsError):
        return f"secret {', '.join(error.names)} does not exist: set it with `ringfence secret set NAME`"
    return str(error)
