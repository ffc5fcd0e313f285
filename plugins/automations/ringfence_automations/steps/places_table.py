"""The tables of what goes on elsewhere: scripts of steps on satellites, and what came of each. No secret is in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.bodies.marked import SecretName, SecretText
from ringfence_automations.service import JsonObject
from ringfence_automations.steps.selection import PlaceState

_KEY = "run_id = :run AND path = :path AND attempt = :attempt"
_BEGIN = text("""
    INSERT INTO automations_elsewhere
           (run_id, path, attempt, automation, revision, frame, secrets, selected, at_once, may_fail, deliver_within,
            deadline)
    VALUES (:run, :path, :attempt, :automation, :revision, :frame, :secrets, :selected, :at_once, :may_fail,
            :deliver_within, :deadline)
    ON CONFLICT DO NOTHING RETURNING run_id
""")
_ADD = text("""
    INSERT INTO automations_places (run_id, path, attempt, place, satellite_id, name, satellite_run, state)
    VALUES (:run, :path, :attempt, :place, :satellite, :name, :satellite_run, 'waiting')
""")
_COLUMNS = """
    run_id, path, attempt, automation, revision, frame, secrets, selected, at_once, may_fail, deliver_within, cancelled,
    deadline <= clock_timestamp() AS is_late,
    greatest(1, extract(epoch FROM deadline - clock_timestamp()))::float AS seconds_left
"""
_LOCK = text(f"SELECT {_COLUMNS} FROM automations_elsewhere WHERE {_KEY} AND NOT ended FOR UPDATE")  # noqa: S608
_OF_RUN = text("SELECT run_id, path, attempt FROM automations_places WHERE satellite_run = :satellite_run")
_ON = text("""
    SELECT run_id, path, attempt, satellite_run FROM automations_places
     WHERE satellite_id = :satellite AND state = 'asked'
""")
_SECRETS_OF = text(f"""
    SELECT {_COLUMNS} FROM automations_elsewhere JOIN automations_places USING (run_id, path, attempt)
     WHERE satellite_run = :satellite_run AND satellite_id = :satellite AND state = 'asked'
       AND NOT cancelled AND NOT ended
""")  # noqa: S608
_PLACES = text(f"""
    SELECT place, satellite_id, name, satellite_run, state, CASE WHEN :whole THEN artifact END AS artifact, message
      FROM automations_places WHERE {_KEY} ORDER BY place
""")  # noqa: S608
_SET = text(f"""
    UPDATE automations_places SET state = :state, artifact = :artifact, message = :message
     WHERE {_KEY} AND place = :place
""")  # noqa: S608
_CANCEL = text(f"UPDATE automations_elsewhere SET cancelled = true WHERE {_KEY}")  # noqa: S608
_ENDED = text(f"UPDATE automations_elsewhere SET ended = true, frame = '' WHERE {_KEY}")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which attempt at which step."""

    run: UUID
    path: str
    attempt: int

    @property
    def values(self) -> dict[str, Any]:
        """As parameters of a statement."""
        return {"run": self.run, "path": self.path, "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class Errand:
    """A step that goes on elsewhere: the frame that satellites are sent, and what holds for all of them."""

    attempt: Attempt
    automation: str
    revision: int
    frame: str
    secrets: dict[str, SecretText]
    selected: bool
    at_once: int
    may_fail: int
    deliver_within: float
    cancelled: bool = False
    is_late: bool = False
    seconds_left: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """One satellite of an errand, and what came of it there."""

    number: int
    satellite: UUID
    name: str
    run: UUID
    state: PlaceState
    artifact: JsonObject
    message: str


async def begin(
    session: AsyncSession, errand: Errand, places: Sequence[tuple[UUID, str, UUID]], *, deadline: object
) -> bool:
    """Write down an errand with its places (satellite, name, id of the run there); False if it is there already."""
    values = {
        **errand.attempt.values,
        "automation": errand.automation,
        "revision": errand.revision,
        "frame": errand.frame,
        "secrets": _written(errand.secrets),
        "selected": errand.selected,
        "at_once": errand.at_once,
        "may_fail": errand.may_fail,
        "deliver_within": errand.deliver_within,
        "deadline": deadline,
    }
    if (await session.execute(_BEGIN, values)).one_or_none() is None:
        return False
    rows = [
        {**errand.attempt.values, "place": number, "satellite": satellite, "name": name, "satellite_run": run}
        for number, (satellite, name, run) in enumerate(places)
    ]
    if rows:
        await session.execute(_ADD, rows)
    return True


async def lock(session: AsyncSession, attempt: Attempt) -> Errand | None:
    """An errand that has not ended; nobody else changes it until the transaction ends."""
    row = (await session.execute(_LOCK, attempt.values)).one_or_none()
    return None if row is None else _errand(row)


async def of_run(session: AsyncSession, satellite_run: UUID) -> Attempt | None:
    """The attempt that a run on a satellite belongs to; None if it is none of ours."""
    row = (await session.execute(_OF_RUN, {"satellite_run": satellite_run})).one_or_none()
    return None if row is None else Attempt(*row)


async def asked_on(session: AsyncSession, satellite: UUID) -> list[tuple[Attempt, UUID]]:
    """The attempts that wait for a satellite, and their runs there."""
    rows = await session.execute(_ON, {"satellite": satellite})
    return [(Attempt(row.run_id, row.path, row.attempt), row.satellite_run) for row in rows]


async def wanting_secrets(session: AsyncSession, satellite_run: UUID, satellite: UUID) -> Errand | None:
    """The errand of a run, while it may have its secrets."""
    values = {"satellite_run": satellite_run, "satellite": satellite}
    row = (await session.execute(_SECRETS_OF, values)).one_or_none()
    return None if row is None else _errand(row)


async def places(session: AsyncSession, attempt: Attempt, *, whole: bool = False) -> list[Place]:
    """The places of an errand, in order; their artifacts are there if it is asked for the `whole`."""
    return [
        Place(
            row.place,
            row.satellite_id,
            row.name,
            row.satellite_run,
            PlaceState(row.state),
            json.loads(row.artifact or "{}"),
            row.message,
        )
        for row in await session.execute(_PLACES, {**attempt.values, "whole": whole})
    ]


async def set_state(
    session: AsyncSession,
    attempt: Attempt,
    number: int,
    state: PlaceState,
    artifact: JsonObject | None = None,
    message: str = "",
) -> None:
    """Write down how far it has come at a place."""
    document = None if artifact is None else json.dumps(artifact, ensure_ascii=False, separators=(",", ":"))
    values = {
        **attempt.values,
        "place": number,
        "state": state.value,
        "artifact": document,
        "message": message,
    }
    await session.execute(_SET, values)


async def cancel(session: AsyncSession, attempt: Attempt) -> None:
    """Write down that an errand is not wanted any more."""
    await session.execute(_CANCEL, attempt.values)


async def end(session: AsyncSession, attempt: Attempt) -> None:
    """Write down that an errand has ended; the script is not kept any longer."""
    await session.execute(_ENDED, attempt.values)


def _written(secrets: dict[str, SecretText]) -> str:
    # Piece by piece: as one text, what was filled in could be read as the name of a secret.
    return json.dumps(
        {
            variable: [piece if isinstance(piece, str) else {"secret": piece.name} for piece in text.pieces]
            for variable, text in secrets.items()
        }
    )


def _errand(row: Any) -> Errand:
    secrets = {
        variable: SecretText(
            tuple(piece if isinstance(piece, str) else SecretName(piece["secret"]) for piece in pieces)
        )
        for variable, pieces in json.loads(row.secrets).items()
    }
    return Errand(
        Attempt(row.run_id, row.path, row.attempt),
        row.automation,
        row.revision,
        row.frame,
        secrets,
        row.selected,
        row.at_once,
        row.may_fail,
        row.deliver_within,
        row.cancelled,
        row.is_late,
        row.seconds_left,
    )
