"""Runs: the list of them, and one step by step, while it goes on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ringfence import PluginContext
from ringfence.pages import Again, Redirect, View
from ringfence.web import DEFAULT_LISTED, Problem, number_of, page

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.wiring import ByHand
from ringfence_automations.definitions.automations import UnreadableAutomationError
from ringfence_automations.definitions.parts import NAME
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.pages.names import id_in
from ringfence_automations.pages.picture import Drawn, drawn, states_of
from ringfence_automations.pages.words import cause_in_words, kind_of, span
from ringfence_automations.runs.tables import kept_output, runs_table, seen, steps_table
from ringfence_automations.runs.tables.runs_table import Run, RunStatus
from ringfence_automations.runs.tables.steps_table import ShownStep

ONE = "/runs/{id}"
READ_EVENTS = "host.event.read"
"""The access rule that shows the event log."""
MOST_STEPS = 50
MOST_ARTIFACT = 16_384
"""So many characters of an artifact are shown among the steps; a larger one is on the page of its step."""
MOST_PIECES = 100
MOST_OUTPUT = 64_000
MOST_PLACES = 200
MOST_NAMED = 20


class Runs:
    """Shows runs, and ends and repeats them."""

    def __init__(
        self, context: PluginContext, rules: AccessRules, definitions: Definitions, by_hand: ByHand
    ) -> None:
        self._context = context
        self._rules = rules
        self._definitions = definitions
        self._by_hand = by_hand.runs

    async def listed(self, view: View) -> Mapping[str, Any]:
        """The runs that match, the newest first."""
        automation = view.query.get("automation", "").strip()
        status = view.query.get("status", "")
        if status and status not in set(RunStatus):
            raise Problem(422, detail="there is no such state of runs")
        before = None if view.after is None else number_of(view.after)
        found: Sequence[Run] = ()
        if not automation or NAME.fullmatch(automation):
            async with self._context.sessions() as session:
                found = await runs_table.listed(
                    session,
                    automation=automation or None,
                    status=status or None,
                    key=None,
                    before=before,
                    limit=DEFAULT_LISTED + 1,
                )
        listed = page(found, DEFAULT_LISTED, lambda one: str(one.number))
        return {
            "runs": [row_of(one) for one in listed.entries],
            "next": listed.next,
            "automation": automation[:200],
            "status": status,
            "statuses": list(RunStatus),
        }

    async def show(self, view: View) -> Mapping[str, Any]:
        """One run."""
        run = await self._by_hand.one(id_in(view))
        after = 0 if view.after is None else number_of(view.after)
        async with self._context.sessions() as session:
            some = await steps_table.shown_in_short(
                session, run.id, after=after, limit=MOST_STEPS + 1, most=MOST_ARTIFACT
            )
            places = await seen.places(session, run.id, limit=MOST_PLACES)
            by_path = await seen.states(session, run.id)
            pieces = await kept_output.newest(session, run.id, limit=MOST_PIECES)
            steps, revision_is_there = await self._picture(session, run, by_path)
        listed = page(some, MOST_STEPS, lambda one: str(one.number))
        may_see = self._by_hand.may_see_event(view.principal, run)
        here = f"/runs/{run.id}?fragment={quote(ONE, safe='')}"
        return {
            "run": run,
            "row": row_of(run),
            "may_run": view.may(self._rules.run),
            "may_see_event": may_see,
            "event": run.event if may_see else None,
            "at": run.position if run.position is not None and view.may(READ_EVENTS) else None,
            "steps": [_attempt(one, places.get((one.path, one.attempt), [])) for one in listed.entries],
            "next": listed.next,
            "drawn": steps,
            "revision_is_there": revision_is_there,
            "output": _output(pieces),
            "cancels": _under_way(by_path),
            "again": None
            if run.has_ended
            else f"{here}&after={quote(view.after, safe='')}"
            if view.after
            else here,
        }

    async def _picture(
        self, session: Any, run: Run, by_path: Mapping[str, str]
    ) -> tuple[tuple[Drawn, ...], bool]:
        try:
            revision = await self._definitions.at(session, run.automation, run.revision)
        except UnreadableAutomationError:
            revision = None
        if revision is None:
            return (), False
        return drawn(revision.definition.steps, states_of(by_path)), True

    async def step(self, view: View) -> Mapping[str, Any]:
        """One attempt at a step, with all that is kept of it."""
        run = await self._by_hand.one(id_in(view))
        number = number_of(view.parameters["number"])
        async with self._context.sessions() as session:
            found = await steps_table.shown(session, run.id, after=number - 1, limit=1)
            if not found or found[0].number != number:
                raise Problem(404, "No such step", detail="this run has no such step")
            [one] = found
            places = await seen.places(session, run.id, limit=MOST_PLACES)
            pieces = await kept_output.newest(
                session, run.id, limit=MOST_PIECES, step=(one.path, one.attempt)
            )
        return {
            "run": run,
            "step": _attempt(one, places.get((one.path, one.attempt), [])),
            "output": _output(pieces),
        }

    async def cancel(self, view: View) -> Redirect | Again:
        """Have it end."""
        id = id_in(view)
        await self._by_hand.cancel(id, view.principal)
        return Redirect(f"/runs/{id}", "You asked to cancel this run.")

    async def start_again(self, view: View) -> Redirect | Again:
        """Start a new run with what has started this one."""
        run = await self._by_hand.one(id_in(view))
        started = await self._by_hand.start_again(run, view.principal)
        return Redirect(f"/runs/{started}", f"{run.automation} is started again: this is the new run.")


def row_of(run: Run) -> dict[str, Any]:
    """A run in a list."""
    return {
        "id": run.id,
        "automation": run.automation,
        "revision": run.revision,
        "status": run.status,
        "kind": kind_of(run.status),
        "message": run.message,
        "cause": cause_in_words(run.trigger, run.started_by),
        "created_at": run.created_at,
        "ended_at": run.ended_at,
        "took": _took(run.started_at, run.ended_at),
    }


def _attempt(one: ShownStep, places: list[Any]) -> dict[str, Any]:
    artifact = one.artifact if isinstance(one.artifact, dict) else {}
    return {
        "path": one.path,
        "depth": one.path.count("."),
        "attempt": one.attempt,
        "number": one.number,
        "kind": one.kind,
        "status": one.status,
        "state": kind_of(one.status),
        "begun_at": one.begun_at,
        "due_at": one.due_at if one.ended_at is None else None,
        "took": _took(one.started_at or one.begun_at, one.ended_at),
        "instance": str(one.instance)[:8] if one.instance is not None and not places else None,
        "places": places[:MOST_NAMED],
        "more_places": len(places) - MOST_NAMED,
        "error": one.error,
        "ending": one.ending if one.ended_at is None else None,
        "has_late": one.has_late,
        "exit_code": artifact.get("exitCode"),
        "enforced": artifact.get("enforced"),
        "policy_revision": artifact.get("policyRevision"),
        "refused": artifact.get("refused"),
        "artifact": one.artifact,
        "is_large": one.artifact is None and one.artifact_length is not None,
    }


def _took(begin: dt.datetime | None, end: dt.datetime | None) -> str | None:
    return None if begin is None or end is None else span(max(0.0, (end - begin).total_seconds()))


def _under_way(by_path: Mapping[str, str]) -> list[str]:
    """The steps that cancelling the run would end."""
    return sorted(path for path, status in by_path.items() if status in ("running", "waiting"))[:MOST_NAMED]


def _output(pieces: Sequence[kept_output.Piece]) -> list[dict[str, Any]]:
    """The last of what was written, in blocks by step and stream."""
    left = MOST_OUTPUT
    kept: list[tuple[str, str, str]] = []
    for piece in reversed(pieces):
        if left <= 0:
            break
        kept.append((piece.path, piece.stream, piece.text[-left:]))
        left -= len(piece.text)
    blocks: list[dict[str, Any]] = []
    for path, stream, text in reversed(kept):
        if blocks and (blocks[-1]["path"], blocks[-1]["stream"]) == (path, stream):
            blocks[-1]["text"] += text
        else:
            blocks.append({"path": path, "stream": stream, "text": text})
    return blocks
