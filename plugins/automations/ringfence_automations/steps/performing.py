"""Carries out one attempt at one step, whatever its kind: the door between the engine and the kinds of steps.

Threat: a kind fails in a way that the engine does not know, or gives back a secret. Mechanism: whatever a kind raises
is the step's failure, but for its cancellation; all that goes to the engine is masked here, and bounded.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError
from ringfence import PluginContext
from ringfence.bounded import cleaned, cleaned_json
from ringfence.redaction import describe, problems
from ringfence.web import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.bodies.marked import rendered
from ringfence_automations.service import (
    Elsewhere,
    StepCall,
    StepFailed,
    StepKind,
    StepRequest,
    StepResult,
)
from ringfence_automations.steps.filling_in import fill
from ringfence_automations.steps.live_output import LiveOutput, WriteOutput
from ringfence_automations.steps.on_satellites import Ended
from ringfence_automations.steps.secrets import MaskedResult, RunSecrets

NOBODY = Principal("nobody", frozenset())
"""For whom a call is made that only ends what goes on."""
MAX_ARTIFACT_BYTES = 250 * 1024
MAX_MESSAGE = 500
GRACE_SECONDS = 30.0
"""How long after its deadline a step may still say how it has ended; then it is cancelled."""


class Performing:
    """Implements the engine's `Performer`, and the service `StepEnds`."""

    def __init__(
        self,
        context: PluginContext,
        built_in: Collection[StepKind[Any]],
        secrets: RunSecrets,
        *,
        write_output: WriteOutput,
        tell: Ended,
    ) -> None:
        self._context = context
        self._built_in = built_in
        self._secrets = secrets
        self._write_output = write_output
        self._tell = tell

    @property
    def kinds(self) -> Mapping[str, StepKind[Any]]:
        """All kinds of steps of this instance, by name."""
        # What this plugin brings itself nobody takes the place of.
        kinds = (*self._context.services.extensions(StepKind), *self._built_in)
        return {kind.name: kind for kind in kinds}

    async def perform(self, request: StepRequest) -> StepResult | Elsewhere:
        """Carry out an attempt. Raises nothing but that it is cancelled."""
        output = LiveOutput(request.run, request.path, request.attempt, self._write_output)
        try:
            try:
                result = await self._performed(request, output)
            finally:
                await output.close()
        except StepFailed as error:
            result = StepResult(False, {}, str(error))
        except TimeoutError:
            result = StepResult(False, {}, "it did not end by its deadline, and was ended")
        except Exception as error:
            self._context.logger.error(
                "a step failed in its kind",
                automation=request.automation,
                path=request.path,
                kind=request.kind,
                error=describe(error),
            )
            result = StepResult(False, {}, f"the kind {request.kind} failed: {describe(error)}")
        return result if isinstance(result, Elsewhere) else await self._told(request.run, result)

    async def ended(
        self, session: AsyncSession, run: UUID, path: str, attempt: int, result: StepResult
    ) -> None:
        """See `StepEnds`."""
        await self._tell(session, run, path, attempt, await self._told(run, result))

    async def cancel(self, request: StepRequest) -> None:
        """End an attempt that goes on elsewhere."""
        try:
            kind, body = self._read(request)
        except StepFailed:
            # It cannot have begun here.
            return
        # Its templates are left: what is to be ended is known by its key.
        await kind.cancel(_call(request, body))

    def is_repeatable(self, request: StepRequest) -> bool:
        """Whether asking for the same attempt again does nothing twice."""
        try:
            kind, body = self._read(request)
        except StepFailed:
            return False
        return kind.is_repeatable(body)

    def forget(self, run: UUID) -> None:
        """A run has ended: nothing of it is masked any more."""
        self._secrets.forget(run)

    async def _performed(self, request: StepRequest, output: LiveOutput) -> StepResult | Elsewhere:
        kind, body = self._read(request)
        try:
            body = rendered(body, lambda text: fill(text, request.values))
        except ValidationError as error:
            raise StepFailed(f"what a template was filled in with does not fit: {problems(error)}") from None
        principal = await request.acts_for()

        async def secrets(names: Collection[str]) -> Mapping[str, str]:
            return await self._secrets.give(request.run, principal, names)

        call = replace(_call(request, body), principal=principal, secrets=secrets, listen=output.hear)
        left = (request.deadline - dt.datetime.now(dt.UTC)).total_seconds()
        if left <= 0:
            raise StepFailed("its time was over before it began")
        async with asyncio.timeout(left + GRACE_SECONDS):
            return await kind.perform(call)

    def _read(self, request: StepRequest) -> tuple[StepKind[Any], BaseModel]:
        kind = self.kinds.get(request.kind)
        if kind is None:
            raise StepFailed(f"there is no kind of steps {request.kind} here: its plugin is not installed")
        try:
            return kind, kind.model.model_validate(request.body)
        except ValidationError as error:
            raise StepFailed(f"the step cannot be read: {problems(error)}") from None

    async def _told(self, run: UUID, result: StepResult) -> StepResult:
        """The result as it may be told: masked, and bounded."""
        try:
            mask = result.mask if isinstance(result, MaskedResult) else await self._secrets.mask(run)
            artifact = await asyncio.to_thread(mask.value, result.artifact) if mask else result.artifact
            artifact = cleaned_json(artifact)
            if len(json.dumps(artifact, ensure_ascii=False).encode()) > MAX_ARTIFACT_BYTES:
                raise StepFailed(f"what it gave back is larger than {MAX_ARTIFACT_BYTES} bytes")
        except (StepFailed, ValueError, RecursionError) as error:
            return StepResult(False, {}, cleaned(f"what it gave back is not kept: {error}", MAX_MESSAGE))
        return StepResult(result.ok, artifact, cleaned(mask.text(result.message), MAX_MESSAGE))


def _call(request: StepRequest, body: BaseModel) -> StepCall[Any]:
    return StepCall(
        run=request.run,
        path=request.path,
        attempt=request.attempt,
        automation=request.automation,
        revision=request.revision,
        body=body,
        values=request.values,
        principal=NOBODY,
        deadline=request.deadline,
        session=request.session,
        is_asked_again=request.is_asked_again,
    )
