"""The kinds `run_shell` and `run_script`: on this instance, or on satellites."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ringfence.bounded import cleaned
from ringfence.scripts import masked, run

from ringfence_automations.bodies import BUILT_IN_MODELS
from ringfence_automations.service import Elsewhere, StepCall, StepFailed, StepResult
from ringfence_automations.steps import artifacts
from ringfence_automations.steps.live_output import pieces_of
from ringfence_automations.steps.on_satellites import OnSatellites
from ringfence_automations.steps.places_table import Attempt
from ringfence_automations.steps.secrets import MaskedResult, RunSecrets
from ringfence_automations.steps.tasks import ScriptBody, given_for, prepared


class ScriptSteps:
    """One of the two kinds. A script on this instance has ended when `perform` does, however that ends."""

    def __init__(self, name: str, on_satellites: OnSatellites, secrets: RunSecrets) -> None:
        self.name = name
        self.model: type[Any] = BUILT_IN_MODELS[name]
        self._on_satellites = on_satellites
        self._secrets = secrets

    def is_repeatable(self, body: ScriptBody) -> bool:
        """See `StepKind`: on a satellite it is known by its id, and here nobody knows how far it came."""
        return body.on is not None

    async def perform(self, call: StepCall[ScriptBody]) -> StepResult | Elsewhere:
        """See `StepKind`."""
        if call.body.on is not None:
            return await self._on_satellites.perform(call, call.body.on)
        return await self._here(call)

    async def cancel(self, call: StepCall[ScriptBody]) -> None:
        """See `StepKind`."""
        if call.body.on is not None:
            await self._on_satellites.cancel(call.session, Attempt(call.run, call.path, call.attempt))

    async def _here(self, call: StepCall[ScriptBody]) -> StepResult:
        ready = prepared(call.body, call.values)
        values = await call.secrets(frozenset(n for text in call.body.secrets.values() for n in text.names))
        try:
            request = ready.task.request(
                given_for(call.body.secrets, values),
                {},
                timeout_ms=int(call.seconds_left * 1000),
                variables=ready.variables,
                context=ready.context,
            )
        except ValueError:
            # The text of the error may quote what was filled in.
            raise StepFailed("what it was to be given cannot be given to a program") from None
        # What a run with secrets writes is masked as a whole, and so cannot be told piece by piece.
        is_followed = not values and not await self._secrets.mask(call.run)
        if is_followed:
            request = replace(request, listen=_listener(call.listen))
        result = await run(request)
        mask = await self._secrets.mask(call.run)
        ended = artifacts.of_run(masked(result, mask))
        if not is_followed:
            for stream, text in pieces_of(ended.artifact):
                call.listen(stream, text)
        return MaskedResult(ended.ok, ended.artifact, ended.message, mask)


def _listener(listen: Callable[[str, str], None]) -> Callable[[str, bytes], None]:
    decoders = {
        name: codecs.getincrementaldecoder("utf-8")(errors="replace") for name in ("stdout", "stderr")
    }

    def hear(stream: str, data: bytes) -> None:
        if text := cleaned(decoders[stream].decode(data)):
            listen(stream, text)

    return hear
