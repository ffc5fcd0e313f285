"""`/checks/{id}`: one check, how it is in its places, how it was, and what its runs have shown."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ringfence.bounded import EARLIEST, moment
from ringfence.pages import View
from ringfence.scripts import Health
from ringfence.web import Problem, cursor, not_a_cursor, page, parts_of
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.definitions.definition import CORE
from ringfence_health_checks.pages.parts import KINDS, Parts, check_id
from ringfence_health_checks.pages.report import assertions_of, limits_of, metrics_of, output_of, report_of
from ringfence_health_checks.pages.silencing import lengths_with
from ringfence_health_checks.results.history import Lasting, Span
from ringfence_health_checks.results.results import ResultKey, StoredResult
from ringfence_health_checks.silences.silences import Silence
from ringfence_health_checks.states.current_states import NO_PLACE, why
from ringfence_health_checks.states.overview import STATES

MOST_PLACES = 25
PLACES_LISTED = 100
MOST_RESULTS = 20
MOST_SILENCES = 20
SEE_EVENTS = "host.event.read"


class OneCheck:
    """The page, its panels, and the numbers that its charts are drawn from."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def show(self, view: View) -> Mapping[str, Any]:
        """The check itself: how it is, and what can be done."""
        return await self.shown(view)

    async def shown(
        self, view: View, *, given: Mapping[str, str] | None = None, error: str | None = None
    ) -> Mapping[str, Any]:
        """The same, with what somebody has entered into the form for a silence, and what is wrong with it."""
        check = await self._check(view)
        state = (await self._parts.states.of([check.id], most=MOST_PLACES))[check.id]
        silences = await self._parts.silences.stored.concerning(check.id, limit=MOST_SILENCES)
        places = {one.ran_on for one in state.places} | {one.place for one in silences if one.place}
        definition = check.definition
        return {
            "named": definition.name,
            "check": check,
            "definition": definition,
            "status": state.status if definition.enabled else "disabled",
            "nowhere": NO_PLACE if definition.enabled and not state.counts else None,
            "state_counts": sorted(state.counts.items(), key=lambda one: STATES.index(one[0])),
            "places": [(one, _why(one.reason, one.executed_at)) for one in state.places],
            "is_all": sum(state.counts.values()) <= MOST_PLACES,
            "names": await self._parts.place_names(view, places),
            "silences": [(one, _scope(one, check.id)) for one in silences],
            "held_silences": await self._parts.held_silences(silences),
            "lengths": lengths_with((given or {}).get("for", "")),
            "given": given or {"for": "3600", "reason": "", "place": ""},
            "error": error,
            "kinds": KINDS,
            "seen": await self._parts.history.newest(check.id),
            "sees_events": view.may(SEE_EVENTS),
            **self._parts.rights(view),
        }

    async def silencing(self, view: View) -> Mapping[str, Any]:
        """The form for a silence by itself, as the palette leads to it."""
        length = view.query.get("for", "3600")
        return await self.shown(view, given={"for": length, "reason": "", "place": ""})

    async def places(self, view: View) -> Mapping[str, Any]:
        """Every place, page by page."""
        check = await self._check(view)
        found = await self._parts.states.latest(check.id, after=view.after or "", limit=PLACES_LISTED + 1)
        listed = page(found, PLACES_LISTED, lambda one: one.ran_on)
        return {
            "check": check,
            "places": [(one, _why(one.reason, one.executed_at)) for one in listed.entries],
            "names": await self._parts.place_names(view, {one.ran_on for one in listed.entries}),
            "next": listed.next,
            "kinds": KINDS,
        }

    async def timeline(self, view: View) -> Mapping[str, Any]:
        """How it was."""
        check = await self._check(view)
        span, place = _span(view), view.query.get("place") or None
        definition = check.definition
        lasting = Lasting(definition.longest_gap_seconds, definition.grace_seconds or 0.0)
        found = await self._parts.history.states(check.id, place, span, view.now, lasting=lasting)
        return {
            "check": check,
            "span": span,
            "spans": list(Span),
            "place": place,
            "names": await self._parts.place_names(view, {place} if place else set()),
            "stretches": [
                {
                    "from": one.begin,
                    "to": one.end,
                    "kind": KINDS.get(one.state or "", "none"),
                    "words": one.state or "no result",
                }
                for one in found
            ],
        }

    async def charts(self, view: View) -> Mapping[str, Any] | None:
        """The latency and the metrics of a place: of the one that is asked for, or of the worst one."""
        check = await self._check(view)
        place = view.query.get("place") or await self._worst_place(check.id)
        if place is None:
            return None
        metrics = await self._parts.history.metrics(check.id, place)
        return {
            "check": check,
            "place": place,
            "names": await self._parts.place_names(view, {place}),
            "span": _span(view),
            "metrics": metrics,
        }

    async def results(self, view: View) -> Mapping[str, Any]:
        """What its runs have shown, the newest first."""
        check = await self._check(view)
        place, status = view.query.get("place") or None, view.query.get("status") or None
        if status is not None and status not in set(Health):
            raise Problem(422, detail=f"there is no such state; there are {', '.join(Health)}")
        found = await self._parts.results.listed(
            check.id,
            ran_on=place,
            status=None if status is None else Health(status),
            after=None if view.after is None else _key(view.after),
            limit=MOST_RESULTS + 1,
        )
        listed = page(found, MOST_RESULTS, lambda one: _cursor(one.key))
        # Times that an older release should not have taken are shown as the earliest, and have no order.
        is_end = not listed.entries or listed.entries[-1].executed_at <= EARLIEST
        return {
            "check": check,
            "results": [_result(one) for one in listed.entries],
            "next": None if is_end else listed.next,
            "names": await self._parts.place_names(view, {one.ran_on for one in listed.entries}),
            "kinds": KINDS,
            "statuses": list(Health),
            "status": status,
            "place": place,
            "seen": await self._parts.history.newest(check.id),
        }

    async def fresh(self, view: View) -> Response:
        """Another text once there is a newer result: they are too many to be told of one by one."""
        return PlainTextResponse(str(await self._parts.history.newest(check_id(view))))

    async def numbers(self, view: View) -> Response:
        """What a chart is drawn from."""
        try:
            drawn = await self._drawn(view)
        except Problem as problem:
            return problem.response()
        times = [int(at.timestamp()) for at in drawn["times"]]
        return JSONResponse({"times": times, "series": drawn["series"], "thresholds": drawn["thresholds"]})

    async def table(self, view: View) -> Mapping[str, Any]:
        """The same as a table, the newest first."""
        drawn = await self._drawn(view)
        rows = zip(drawn["times"], *(one["values"] for one in drawn["series"]), strict=True)
        return {
            **drawn,
            "span": _span(view),
            "names": await self._parts.place_names(view, {drawn["place"]}),
            "rows": [row for row in rows if any(value is not None for value in row[1:])][::-1],
        }

    async def _drawn(self, view: View) -> dict[str, Any]:
        check, span = await self._check(view), _span(view)
        place, metric = view.query.get("place") or CORE, view.query.get("metric")
        points = await self._parts.history.numbers(check.id, place, span, view.now, metric=metric)
        if metric is None:
            unit = "ms"
            series = [
                {"name": "average", "values": [one.typical for one in points]},
                {"name": "slowest", "values": [one.worst for one in points]},
            ]
            ranges: Mapping[str, str | None] = {}
        else:
            readings = await self._parts.history.metrics(check.id, place)
            found = next((one for one in readings if one.name == metric), None)
            unit = "" if found is None else found.unit
            series = [{"name": metric, "values": [one.typical for one in points]}]
            ranges = {} if found is None else {"warning": found.warn, "critical": found.crit}
        return {
            "check": check,
            "place": place,
            "metric": metric,
            "unit": unit,
            "times": [one.at for one in points],
            "series": series,
            "thresholds": limits_of(check.definition.assertions, metric, unit, ranges),
        }

    async def _check(self, view: View) -> Check:
        return await self._parts.changes.known(check_id(view))

    async def _worst_place(self, id: UUID) -> str | None:
        places = (await self._parts.states.of([id], most=MOST_PLACES))[id].places
        # Of those that have told something: the others have no numbers.
        return next((one.ran_on for one in (*(one for one in places if one.executed_at), *places)), None)


def _result(one: StoredResult) -> Mapping[str, Any]:
    detail = one.detail
    return {
        "result": one,
        "metrics": metrics_of(one.metrics),
        "assertions": assertions_of(detail),
        "output": output_of(detail),
        "report": report_of(detail),
        "notes": [str(note) for note in detail["notes"][:20]]
        if isinstance(detail.get("notes"), list)
        else [],
        "stopped": str(detail.get("stopped") or ""),
        "exit": detail.get("exitCode"),
        "sandbox": json.dumps(detail.get("sandbox"), indent=2, ensure_ascii=False)
        if detail.get("sandbox")
        else "",
    }


def _why(reason: str | None, executed_at: dt.datetime | None) -> str | None:
    return None if reason is None else why(reason, executed_at is not None)


def _scope(silence: Silence, check: UUID) -> str:
    """Whose changes a silence is about, apart from its place."""
    parts = ["this check"] if silence.check_id == check else ["all checks"]
    return " ".join([*parts, *([f"on satellites with {silence.label}"] if silence.label else [])])


def _span(view: View) -> Span:
    try:
        return Span(view.query.get("span") or Span.DAY)
    except ValueError as error:
        raise Problem(422, detail=f"there is no such span; there are {', '.join(Span)}") from error


def _key(after: str) -> ResultKey:
    at, ran_on, id = parts_of(after, 3)
    try:
        return ResultKey(moment(dt.datetime.fromisoformat(at)), ran_on, id)
    except ValueError as error:
        raise not_a_cursor() from error


def _cursor(key: ResultKey) -> str:
    return cursor(key.executed_at.isoformat(), key.ran_on, key.id)
