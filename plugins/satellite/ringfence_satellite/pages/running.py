"""The form with which a script is run on a satellite, and the page of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from ringfence.bounded import bounded_json
from ringfence.pages import Again, Redirect, View
from ringfence.refusals import in_words
from ringfence.scripts import DEFAULT_TIMEOUT_MS, ScriptKind
from ringfence.web import Problem

from ringfence_satellite.pages.finding import id_of
from ringfence_satellite.pages.words import LAYERS, State
from ringfence_satellite.server.guarded_fleet import GuardedFleet
from ringfence_satellite.server.rules import FleetRules
from ringfence_satellite.server.runs.guarded import GuardedRuns, NewRun
from ringfence_satellite.server.runs.table import Run

RUNS_SHOWN = 20
FIELDS = ("kind", "script", "args", "needs", "packages", "timeout")
RESULT = ("exitCode", "durationMs", "stdout", "stderr", "outputTruncated", "value", "stopped")
"""What is shown of a result beside its report."""
KINDS = (
    (ScriptKind.SHELL.value, "shell"),
    (ScriptKind.BASH.value, "bash"),
    (ScriptKind.PYTHON.value, "Python"),
    (ScriptKind.ESM.value, "JavaScript (ES module)"),
    (ScriptKind.AUTO.value, "first line of the script"),
)
_LANGUAGES = {ScriptKind.PYTHON.value: "python", ScriptKind.ESM.value: "javascript"}
_OF = {"timeoutMs": "timeout", "timeout_ms": "timeout"}
_STATES = {
    "queued": ("waiting for the satellite", "off"),
    "delivered": ("sent", "off"),
    "running": ("running", "warn"),
}


class Running:
    """Asks for runs, and shows them."""

    def __init__(self, rules: FleetRules, guarded: GuardedFleet, runs: GuardedRuns) -> None:
        self._rules = rules
        self._guarded = guarded
        self._runs = runs

    async def form(self, view: View) -> Mapping[str, Any]:
        """The empty form."""
        given = {
            **dict.fromkeys(FIELDS, ""),
            "kind": ScriptKind.SHELL.value,
            "timeout": f"{DEFAULT_TIMEOUT_MS / 1000:g}",
        }
        return await self._form(view, given, {})

    async def ask(self, view: View) -> Redirect | Again:
        """Ask for a run, and go to its page."""
        id = id_of(view.parameters["id"])
        given = {name: view.form.get(name, "") for name in FIELDS}
        try:
            run = await self._runs.ask(id, NewRun.model_validate(_fields(given)), view.principal)
        except _FieldError as error:
            errors = {error.field: str(error)}
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            errors = {_field(one["loc"]): in_words(one) for one in reversed(faults)}
        except Problem as error:
            if error.status not in (422, 429):
                raise
            errors = {"script": error.detail or error.title}
        else:
            return Redirect(f"/satellites/{id}/runs/{run}")
        return Again("ask.html", await self._form(view, given, errors))

    async def _form(self, view: View, given: Mapping[str, str], errors: Mapping[str, str]) -> dict[str, Any]:
        one = await self._guarded.found(id_of(view.parameters["id"]), view.principal, self._rules.run)
        return {
            "satellite": one,
            "given": given,
            "errors": {**dict.fromkeys(FIELDS), **errors},
            "kinds": KINDS,
            "language": _LANGUAGES.get(given["kind"], "shell"),
        }

    async def listed(self, view: View) -> Mapping[str, Any] | None:
        """The newest runs of a satellite."""
        id = id_of(view.parameters["id"])
        found = await self._runs.listed(view.principal, id, None, view.query.get("runs"), RUNS_SHOWN)
        return {
            "runs": [{"run": one, "state": state_of(one)} for one in found.entries],
            "older": found.next,
            "id": id,
        }

    async def run(self, view: View) -> Mapping[str, Any]:
        """How a run is, what was enforced, and what it has written."""
        id, satellite = id_of(view.parameters["run"]), id_of(view.parameters["id"])
        one = await self._runs.found(id, view.principal, satellite)
        result = one.result or {}
        shown = {name: result.get(name) for name in RESULT} if one.result is not None else None
        told = result.get("sandbox")
        report = told if isinstance(told, dict) else {}
        enforced = report.get("enforced")
        return {
            "run": one,
            "how": state_of(one),
            "result": shown,
            "report": report,
            "layers": [
                {
                    "name": name,
                    "does": LAYERS.get(name, ""),
                    "held": held is True,
                    "by": _by(name, report.get("mechanisms"), enforced),
                }
                for name, held in sorted(enforced.items())
            ]
            if isinstance(enforced, dict)
            else [],
            "downgrades": _told(report.get("downgrades"), "layer", "reason"),
            "output": await self._runs.output(one) if one.result is None else [],
        }

    async def cancel(self, view: View) -> Redirect | Again:
        """Have a run ended."""
        id, satellite = id_of(view.parameters["run"]), id_of(view.parameters["id"])
        await self._runs.cancel(id, view.principal, satellite)
        return Redirect(f"/satellites/{satellite}/runs/{id}", "You asked to cancel this run.")


def state_of(run: Run) -> State:
    """How a run is, in words."""
    if run.outcome is None:
        if run.cancelled_at is not None:
            return State("being cancelled", "warn")
        return State(*_STATES.get(run.state.value, (run.state.value, "off")))
    if run.outcome.value != "finished":
        return State(run.outcome.value, "off" if run.outcome.value == "cancelled" else "bad")
    return State("finished", "good")


class _FieldError(ValueError):
    """A field cannot be read."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _fields(given: Mapping[str, str]) -> dict[str, Any]:
    """What was entered, as the API takes it. Raises `_FieldError`."""
    if not given["script"].strip():
        raise _FieldError("script", "Enter a script.")
    fields: dict[str, Any] = {
        "kind": given["kind"],
        "script": given["script"],
        "args": given["args"].splitlines(),
    }
    if given["packages"].strip():
        fields["packages"] = given["packages"].strip()
    if given["needs"].strip():
        try:
            fields["needs"] = bounded_json(json.loads(given["needs"]))
        except (ValueError, RecursionError) as error:
            raise _FieldError("needs", f"This is not valid JSON: {error}.") from error
    try:
        fields["timeoutMs"] = int(float(given["timeout"]) * 1000)
    except (ValueError, OverflowError) as error:
        raise _FieldError("timeout", "Enter a number of seconds.") from error
    return fields


def _field(loc: tuple[int | str, ...]) -> str:
    name = str(loc[0]) if loc else "script"
    name = _OF.get(name, name)
    return name if name in FIELDS else "script"


def _by(layer: str, mechanisms: object, layers: Mapping[str, Any]) -> str:
    """By what a layer was held; of the resources, each limit has a mechanism of its own."""
    if not isinstance(mechanisms, dict):
        return "–"
    if layer == "resources" and layer not in mechanisms:
        limits = sorted(f"{name}: {by}" for name, by in mechanisms.items() if name not in layers)
        return "; ".join(limits) or "–"
    return str(mechanisms.get(layer, "–"))


def _told(entries: object, *keys: str) -> list[dict[str, str]]:
    """Entries of a report, which a satellite has told, as far as they are what they should be."""
    listed = entries if isinstance(entries, list) else []
    return [{key: str(one.get(key, "")) for key in keys} for one in listed if isinstance(one, dict)]
