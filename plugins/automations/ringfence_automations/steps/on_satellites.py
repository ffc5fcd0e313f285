"""Scripts of steps on satellites: asked for in the transaction of the step, and ended by what the satellites tell.

Threat: a run of an automation moves to another instance, and its scripts are run twice, or never told of. Mechanism:
each run on a satellite has an id that follows from the attempt and the satellite; that it is asked for is one
transaction with the row that says so; its end comes by the event log to one instance of the fleet, in the transaction
in which the step ends. Secrets are not in what is sent: the satellite asks for them just before it begins, and whether
the one for whom the automation acts may have them is looked at then.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

from ringfence import Event, PluginContext
from ringfence.redaction import describe
from ringfence.scripts import Mask
from ringfence.web import Principal
from ringfence_satellite.hooks import SatelliteDeleted, SatelliteRunFinished
from ringfence_satellite.service import (
    AssignedSatellite,
    KnownSatellite,
    PlacedTask,
    RunFailed,
    RunScript,
    Satellites,
    SecretsUnavailable,
)
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.bodies.scripts import MOST_PLACES, EachSelected, OneSatellite
from ringfence_automations.definitions.permissions import RUN_ON_SATELLITES
from ringfence_automations.runs.deciding.plan import LONGEST_SECONDS
from ringfence_automations.service import Elsewhere, StepCall, StepFailed, StepResult
from ringfence_automations.steps import artifacts, places_table
from ringfence_automations.steps.live_output import pieces_of
from ringfence_automations.steps.places_table import Attempt, Errand, Place
from ringfence_automations.steps.secrets import RunSecrets
from ringfence_automations.steps.selection import PlaceState, next_places, together
from ringfence_automations.steps.tasks import ScriptBody, given_for, prepared

_IDS = uuid.UUID("6a1e3c1e-6b0f-4a55-9a68-4f1c3b7d2f10")
"""The namespace of the ids of runs on satellites."""

ActsFor = Callable[[str, int], Awaitable[Principal]]
KeepOutput = Callable[[AsyncSession, UUID, str, int, Sequence[tuple[str, str]]], Awaitable[None]]
Ended = Callable[[AsyncSession, UUID, str, int, StepResult], Awaitable[None]]


class OnSatellites:
    """Sends scripts of steps to satellites, and takes in what comes of them. Implements `RunSecretSource`."""

    def __init__(
        self,
        context: PluginContext,
        secrets: RunSecrets,
        acts_for: ActsFor,
        *,
        tell: Ended,
        keep: KeepOutput,
    ) -> None:
        self._context = context
        self._secrets = secrets
        self._acts_for = acts_for
        self._tell_end = tell
        self._keep = keep

    @property
    def _satellites(self) -> Satellites:
        return self._context.services.get(Satellites)

    async def perform(
        self, call: StepCall[ScriptBody], on: OneSatellite | EachSelected
    ) -> StepResult | Elsewhere:
        """Ask for the script on the satellites. Asking again for the same attempt asks for nothing more."""
        chosen = await self._chosen(on, call.principal)
        if not chosen:
            # One that was named is there, or was refused.
            assert isinstance(on, EachSelected)
            if on.may_be_none:
                return together([], [], may_fail=on.may_fail, why_over="no satellite is selected")
            raise StepFailed(f"no satellite is selected by {on.selector}")
        errand = _errand(call, on, quiet=bool(await self._secrets.mask(call.run)))
        attempt = errand.attempt
        runs = [(one.id, one.name, uuid.uuid5(_IDS, f"{call.key}/{one.id}")) for one in chosen]
        session = call.session
        if not await places_table.begin(session, errand, runs, deadline=call.deadline):
            return Elsewhere("on satellites")
        result = await self._go_on(session, attempt)
        if result is not None:
            return result
        names = ", ".join(one.name for one in chosen[:3])
        return Elsewhere(names if len(chosen) <= 3 else f"{names} and {len(chosen) - 3} more satellites")

    async def cancel(self, session: AsyncSession, attempt: Attempt) -> None:
        """End the scripts where they run. The step's end is told when the last of them has ended."""
        if await places_table.lock(session, attempt) is None:
            return
        await places_table.cancel(session, attempt)
        for place in await places_table.places(session, attempt):
            if place.state is PlaceState.ASKED:
                await self._satellites.cancel(place.run, session=session)
        await self._tell(session, attempt)

    async def run_secrets(self, satellite: AssignedSatellite, run: UUID) -> Mapping[str, str] | None:
        """See `RunSecretSource`."""
        async with self._context.sessions() as session:
            errand = await places_table.wanting_secrets(session, run, satellite.id)
        if errand is None:
            return None
        names = frozenset(name for text in errand.secrets.values() for name in text.names)
        try:
            principal = await self._acts_for(errand.automation, errand.revision)
            _check(principal, satellite)
            values = await self._secrets.give(errand.attempt.run, principal, names)
        except SecretsUnavailable:
            raise
        except Exception as error:
            said = str(error) if isinstance(error, StepFailed) else describe(error)
            raise SecretsUnavailable(said) from error
        return given_for(errand.secrets, values)

    async def run_mask(self, run: UUID) -> Mask | None:
        """See `RunSecretSource`: all that the run of the automation was given, also by its other steps."""
        async with self._context.sessions() as session:
            attempt = await places_table.of_run(session, run)
        return None if attempt is None else await self._secrets.mask(attempt.run)

    async def run_finished(self, event: Event[SatelliteRunFinished], session: AsyncSession) -> None:
        """A run on a satellite has ended; of those of others there is nothing to do."""
        attempt = await places_table.of_run(session, event.payload.run_id)
        if attempt is not None:
            await self._take(session, attempt, event.payload.run_id)

    async def satellite_deleted(self, event: Event[SatelliteDeleted], session: AsyncSession) -> None:
        """The runs of a satellite are gone with it, and no event tells of their end."""
        for attempt, run in await places_table.asked_on(session, event.payload.satellite_id):
            await self._take(session, attempt, run)

    async def _chosen(
        self, on: OneSatellite | EachSelected, principal: Principal
    ) -> Sequence[KnownSatellite]:
        if isinstance(on, EachSelected):
            found = await self._satellites.find(selector=on.selector)
            if len(found) > MOST_PLACES:
                raise StepFailed(
                    f"{len(found)} satellites are selected, and {MOST_PLACES} is the most for a step"
                )
        else:
            found = await self._one(on.satellite)
        for one in found:
            _check(principal, one)
        return found

    async def _one(self, key: str) -> Sequence[KnownSatellite]:
        """The satellite of this id, or else of this name."""
        with contextlib.suppress(ValueError):
            if found := await self._satellites.find(ids=[UUID(key)]):
                return found
        if found := await self._satellites.find(names=[key]):
            return found
        raise StepFailed(f"there is no satellite {key!r}")

    async def _take(self, session: AsyncSession, attempt: Attempt, run: UUID) -> None:
        """Take in the end of a run, if it is waited for."""
        errand = await places_table.lock(session, attempt)
        if errand is None:
            return
        places = await places_table.places(session, attempt)
        place = next((one for one in places if one.run == run and one.state is PlaceState.ASKED), None)
        if place is None:
            return
        result = await self._end_of(session, errand, run, len(places))
        written = pieces_of(result.artifact, name=place.name if errand.selected else "")
        await self._write(session, attempt, place.number, result)
        await self._tell(session, attempt)
        # The run's row is locked by it: after the event log, in which asking for more has written.
        await self._keep(session, attempt.run, attempt.path, attempt.attempt, written)

    async def _end_of(self, session: AsyncSession, errand: Errand, run: UUID, places: int) -> StepResult:
        try:
            end = await self._satellites.outcome(run, session=session)
            mask = await self._secrets.mask(errand.attempt.run)
        except RunFailed as error:
            return artifacts.without_run("unreachable", str(error))
        except StepFailed as error:
            return artifacts.without_run("failed", f"what it gave back is not kept: {error}")
        if end is None:
            return artifacts.without_run("lost", "the run's end cannot be read")
        most = max(artifacts.MIN_OUTPUT, artifacts.MAX_OUTPUT // places)
        return artifacts.of_end(end, mask, most_output=most)

    async def _tell(self, session: AsyncSession, attempt: Attempt) -> None:
        """Go on with an errand; tell of its end if that was the last of it."""
        if (result := await self._go_on(session, attempt)) is not None:
            await self._tell_end(session, attempt.run, attempt.path, attempt.attempt, result)

    async def _go_on(self, session: AsyncSession, attempt: Attempt) -> StepResult | None:
        """Ask at the places that come next; the step's end once none is left, which is written down then."""
        errand = await places_table.lock(session, attempt)
        if errand is None:
            return None
        is_over = errand.cancelled or errand.is_late
        places = await places_table.places(session, attempt)
        if len(places) > 1:
            # Each request is an event, after which nobody is to be waited for.
            await self._satellites.hold(
                [one.satellite for one in places if not one.state.has_ended], session=session
            )
        while True:
            places = await places_table.places(session, attempt)
            states = [one.state for one in places]
            move = next_places(states, at_once=errand.at_once, may_fail=errand.may_fail, is_over=is_over)
            for number in move.leave_out:
                await self._write(session, attempt, number, None)
            was_refused = False
            for number in move.ask:
                was_refused |= not await self._ask(session, errand, places[number])
            if not was_refused and not move.leave_out:
                break
        if not all(state.has_ended for state in states) or move.ask:
            return None
        await places_table.end(session, attempt)
        return _together(errand, await places_table.places(session, attempt, whole=True))

    async def _ask(self, session: AsyncSession, errand: Errand, place: Place) -> bool:
        frame = RunScript.model_validate_json(errand.frame)
        frame = frame.model_copy(update={"timeout_ms": int(min(errand.seconds_left, LONGEST_SECONDS) * 1000)})
        try:
            await self._satellites.ask(
                place.satellite,
                frame,
                id=place.run,
                session=session,
                by=f"automation {errand.automation}",
                deliver_within=min(errand.deliver_within, errand.seconds_left),
                has_secrets=bool(errand.secrets),
            )
        except (RunFailed, ValueError) as error:
            refused = artifacts.without_run("unreachable", str(error))
            await self._write(session, errand.attempt, place.number, refused)
            return False
        await places_table.set_state(session, errand.attempt, place.number, PlaceState.ASKED)
        return True

    @staticmethod
    async def _write(session: AsyncSession, attempt: Attempt, number: int, result: StepResult | None) -> None:
        if result is None:
            await places_table.set_state(session, attempt, number, PlaceState.LEFT_OUT, None, "left out")
            return
        not_there = result.artifact.get("status") in ("unreachable", "lost")
        state = PlaceState.UNREACHABLE if not_there else PlaceState.FAILED
        state = PlaceState.SUCCEEDED if result.ok else state
        await places_table.set_state(session, attempt, number, state, result.artifact, result.message)


def _check(principal: Principal, satellite: AssignedSatellite) -> None:
    if not principal.holds_on(RUN_ON_SATELLITES, satellite.tags):
        raise StepFailed(
            f"{principal.name}, for whom the automation acts, does not hold {RUN_ON_SATELLITES} on "
            f"{satellite.name} (any more)"
        )


def _errand(call: StepCall[ScriptBody], on: OneSatellite | EachSelected, *, quiet: bool) -> Errand:
    ready = prepared(call.body, call.values)
    frame = RunScript.carrying_out(
        PlacedTask.of(ready.task, {}, {}),
        run_id="-",
        timeout_ms=int(min(call.seconds_left, LONGEST_SECONDS) * 1000),
        config_id=None,
        variables=ready.variables,
        context=ready.context,
        quiet=quiet,
    )
    selected = isinstance(on, EachSelected)
    return Errand(
        Attempt(call.run, call.path, call.attempt),
        call.automation,
        call.revision,
        frame.encode(),
        dict(call.body.secrets),
        selected,
        on.at_once if isinstance(on, EachSelected) else 1,
        on.may_fail if isinstance(on, EachSelected) else 0,
        on.deliver_within,
    )


def _together(errand: Errand, places: Sequence[Place]) -> StepResult:
    if not errand.selected:
        [one] = places
        artifact = {**one.artifact, "satellite": one.name}
        return StepResult(one.state is PlaceState.SUCCEEDED, artifact, one.message)
    why = "cancelled" if errand.cancelled else "its time was over" if errand.is_late else ""
    return together(
        [one.state for one in places],
        [(one.name, one.artifact, one.message) for one in places],
        may_fail=errand.may_fail,
        why_over=why,
    )
