"""`/checks/new` and `/checks/{id}/edit`: a check is written as a form or as JSON, and tried beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ringfence.pages import Again, Redirect, View
from ringfence.web import Problem
from ringfence_satellite.service import RunFailed
from ringfence_script_packages.service import PackagesError
from ringfence_secrets.service import USE as USE_SECRETS
from starlette.responses import JSONResponse, Response

from ringfence_health_checks import catalogue
from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.pages import form as forms
from ringfence_health_checks.pages.form import FormError
from ringfence_health_checks.pages.parts import KINDS, Parts, check_id
from ringfence_health_checks.pages.report import metrics_of, output_of, report_of
from ringfence_health_checks.running.changes import ChangedMeanwhileError, without_packages
from ringfence_health_checks.running.tries import NoPlaceError, Trial

_OF_TRIAL = frozenset(field.alias for field in Trial.model_fields.values())
_OPTIONAL = ("stdin", "needs", "packages")
"""What a definition says nothing of where it has none."""
_NO_FIELDS = "this check cannot be shown as a form (texts of several lines, or empty ones): edit it as JSON"
TEMPLATE = "edit.html"
SEEN = "seen"
"""The hidden field that says which version of a check was changed."""


class Editing:
    """The pages, and what their buttons do."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def new(self, view: View) -> Mapping[str, Any]:
        """A form for a new check: empty, or with one of the catalogue."""
        wanted = view.query.get("from")
        ready = None
        if wanted is not None:
            try:
                ready = catalogue.ready(wanted)
            except KeyError as error:
                raise Problem(404, detail="there is no such check in the catalogue") from error
        given = forms.empty() if ready is None else forms.of_ready(ready)
        return self._filled(None, given, ready=ready)

    async def edit(self, view: View) -> Mapping[str, Any]:
        """A form with a check that there is."""
        check = await self._parts.changes.known(check_id(view))
        given = {**forms.of_wire(check.definition.to_wire()), SEEN: _version(check)}
        if not forms.fits(check.definition):
            given[forms.WHOLE] = forms.as_text(check.definition)
        return self._filled(check, given)

    async def create(self, view: View) -> Redirect | Again:
        """Add the check that was entered, or try it, or show it in the other way."""
        return await self._done(view, None)

    async def change(self, view: View) -> Redirect | Again:
        """Write the check that was entered over the one that there is, or try it, or show it in the other way."""
        return await self._done(view, await self._parts.changes.known(check_id(view)))

    async def schema(self, view: View) -> Response:
        """The JSON schema of a definition, for the editor."""
        return JSONResponse(Definition.model_json_schema(by_alias=True))

    async def _done(self, view: View, check: Check | None) -> Redirect | Again:
        given, go = dict(view.form), view.form.get("go", "save")
        try:
            wire = _wire(given)
            if go == "json":
                whole = {name: value for name, value in wire.items() if value not in (None, "", [], {})}
                return self._again(check, {**given, forms.WHOLE: json.dumps(whole, indent=2)}, status=200)
            if go == "form":
                kept = {SEEN: given.get(SEEN, ""), "on": given.get("on", "")}
                definition = forms.definition_of(wire)
                if not forms.fits(definition):
                    raise FormError({forms.WHOLE: _NO_FIELDS})
                return self._again(check, {**forms.of_wire(definition.to_wire()), **kept}, status=200)
            definition = forms.definition_of(wire)
            if go == "try":
                return await self._tried(view, check, given, definition)
            return await self._saved(view, check, given, definition)
        except FormError as error:
            return self._again(check, given, errors=error.errors)

    async def _saved(
        self,
        view: View,
        check: Check | None,
        given: Mapping[str, str],
        definition: Definition,
    ) -> Redirect | Again:
        if check is not None and given.get(SEEN) != _version(check):
            return self._changed_meanwhile(check, given)
        try:
            if check is None:
                made = await self._parts.changes.create(definition, view.principal)
                return Redirect(
                    f"/checks/{made.id}", "The check is created. Its first result will appear here."
                )
            # What was left out is as it is without, and not as it was before.
            partial = {**dict.fromkeys(_OPTIONAL), **definition.to_wire()}
            await self._parts.changes.change(check.id, partial, view.principal, seen=check.updated_at)
        except ChangedMeanwhileError:
            return self._changed_meanwhile(await self._parts.changes.known(check_id(view)), given)
        except Problem as problem:
            if problem.status == 404:
                raise
            detail = problem.detail or problem.title
            return self._again(check, given, errors={forms.problem_of(detail): detail}, status=problem.status)
        return Redirect(f"/checks/{check.id}", "The check is saved.")

    def _changed_meanwhile(self, check: Check, given: Mapping[str, str]) -> Again:
        said = (
            f"{check.updated_by} has changed this check since you opened it. Compare it with what you have, "
            "and save again to replace it."
        )
        return self._again(check, {**given, SEEN: _version(check)}, errors={forms.WHOLE: said}, status=409)

    async def _tried(
        self, view: View, check: Check | None, given: Mapping[str, str], definition: Definition
    ) -> Again:
        """Run it once, and show what comes of it beside what was entered."""
        wire = definition.to_wire()
        trial = {name: value for name, value in wire.items() if name in _OF_TRIAL}
        if on := given.get("on", "").strip():
            trial["on"] = on
        try:
            found = await self._parts.tries.carry_out(
                Trial.model_validate(trial), with_secrets=view.principal.holds(USE_SECRETS)
            )
        except PackagesError as error:
            return self._again(check, given, errors={"packages": str(without_packages(error).detail)})
        except (NoPlaceError, RunFailed) as error:
            return self._again(check, given, errors={"on": str(error)})
        return self._again(check, given, tried=_shown(found), status=200)

    def _again(
        self,
        check: Check | None,
        given: Mapping[str, str],
        *,
        errors: Mapping[str, str] | None = None,
        tried: Mapping[str, Any] | None = None,
        status: int = 422,
    ) -> Again:
        return Again(TEMPLATE, self._filled(check, given, errors=errors, tried=tried), status=status)

    @staticmethod
    def _filled(
        check: Check | None,
        given: Mapping[str, str],
        *,
        errors: Mapping[str, str] | None = None,
        tried: Mapping[str, Any] | None = None,
        ready: catalogue.Ready | None = None,
    ) -> Mapping[str, Any]:
        every = (*forms.FIELDS, forms.WHOLE, "on", SEEN)
        errors = errors or {}
        return {
            "check": check,
            "action": "/checks/new" if check is None else f"/checks/{check.id}/edit",
            "given": {name: given.get(name, "") for name in every},
            "errors": {name: errors.get(name) for name in every},
            "is_whole": bool(given.get(forms.WHOLE)),
            "language": forms.LANGUAGES.get(given.get("kind", ""), "text"),
            "kinds": forms.KINDS,
            "formats": forms.FORMATS,
            "tried": tried,
            "ready": ready,
            "catalogue": [catalogue.ready(name) for name in catalogue.names()] if check is None else [],
            "colours": KINDS,
        }


def _wire(given: Mapping[str, str]) -> dict[str, Any]:
    """What was entered, in whichever way. Raises `FormError`."""
    if given.get(forms.WHOLE):
        return forms.whole_of(given[forms.WHOLE])
    return forms.to_wire(given)


def _shown(found: Mapping[str, Any]) -> Mapping[str, Any]:
    run = found.get("run") or {}
    return {
        "status": found["status"],
        "message": found["message"],
        "on": found["on"],
        "kind": found["kind"],
        "format": found["format"],
        "metrics": metrics_of(found["metrics"]),
        "assertions": found["assertions"],
        "notes": found["notes"],
        "output": output_of(run),
        "report": report_of(run),
        "sandbox": json.dumps(run.get("sandbox"), indent=2, ensure_ascii=False) if run else "",
    }


def _version(check: Check) -> str:
    return check.updated_at.isoformat()
