"""Definitions are written in an editor, checked there, and tried before anything holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from ringfence import PluginContext
from ringfence.bounded import bounded_json
from ringfence.pages import Again, Redirect, View
from ringfence.web import Problem

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.trying import With
from ringfence_automations.by_hand.wiring import ByHand
from ringfence_automations.definitions.applying import Applied
from ringfence_automations.definitions.reading.schema import schema_of
from ringfence_automations.definitions.reading.written import as_yaml
from ringfence_automations.definitions.stored import Automation
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.pages.inputs import WrongInputsError, fields, read
from ringfence_automations.pages.names import check_reads, name_in, number_in
from ringfence_automations.pages.showing import reason_in, text_of
from ringfence_automations.pages.words import trigger_in_words

SCHEMA = "/automations/new/schema"
FIRST = """\
name: say-hello
triggers:
  - every: 1h
steps:
  - id: hello
    run_shell:
      script: echo hello
"""


class Editing:
    """The editor, and what is asked of it."""

    def __init__(
        self, context: PluginContext, rules: AccessRules, definitions: Definitions, by_hand: ByHand
    ) -> None:
        self._context = context
        self._rules = rules
        self._definitions = definitions
        self._by_hand = by_hand

    async def new(self, view: View) -> Mapping[str, Any]:
        """An editor with a definition to begin with."""
        return self._editor(view, None, FIRST, 0)

    async def edit(self, view: View) -> Mapping[str, Any]:
        """An editor with an automation as it is, or as it was at the revision that is asked for."""
        check_reads(view, self._rules)
        found = await self._by_hand.writing.one(name_in(view))
        text: Any = as_yaml(found.definition)
        if "revision" in view.query:
            revision = number_in(view.query["revision"], "the revision")
            past = await self._definitions.automations.history(found.name, before=revision + 1, limit=1)
            if not past or past[0].revision != revision:
                raise Problem(404, detail=f"{found.name} has no revision {revision}")
            text = text_of(past[0].definition)
        if not isinstance(text, str):
            text = json.dumps(text, indent=2, ensure_ascii=False)
        return self._editor(view, found.name, text, found.revision)

    async def schema(self, _: View) -> Response:
        """The JSON schema of definitions."""
        return JSONResponse(schema_of(self._definitions.kinds))

    async def made(self, view: View) -> Redirect | Again:
        """What was written for new automations: checked, tried or saved."""
        return await self._done(view, None)

    async def edited(self, view: View) -> Redirect | Again:
        """What was written for one that is there."""
        return await self._done(view, name_in(view))

    async def _done(self, view: View, name: str | None) -> Redirect | Again:
        text = view.form.get("text", "")
        wanted = view.form.get("do", "save")
        expected = number_in(view.form.get("revision", "0"), "the revision")
        saves = wanted == "save"
        try:
            applied = await self._by_hand.writing.apply(
                text,
                view.principal,
                reason=reason_in(view),
                only_tell=not saves,
                name=name,
                expected=expected if saves else None,
            )
            if saves:
                return _saved(applied)
            editor = self._editor(view, name, text, expected, warnings=_warnings(applied))
            if wanted == "try":
                found = applied[0].written.automation
                editor |= await self._tried(view, found, for_real=False)
            else:
                editor["said"] = "No problems found. It is not saved yet."
            return Again("edit-automation.html", editor, 422 if editor["try_error"] else 200)
        except Problem as problem:
            return Again("edit-automation.html", *await self._refused(view, name, text, expected, problem))

    async def _refused(
        self, view: View, name: str | None, text: str, expected: int, problem: Problem
    ) -> tuple[dict[str, Any], int]:
        findings = problem.extra.get("errors")
        if problem.status == 412:
            newest = 0 if name is None else (await self._by_hand.writing.one(name)).revision
            error = f"{problem.detail}. " + (
                "Choose another name, or edit that one."
                if name is None
                else "Look at the history. If you save again, your text replaces it."
            )
            return self._editor(view, name, text, newest, error=error), 412
        if problem.status not in (403, 409, 422):
            raise problem
        why = problem.title if findings else problem.detail
        return self._editor(view, name, text, expected, error=why, findings=findings or ()), problem.status

    def _editor(
        self,
        view: View,
        name: str | None,
        text: str,
        revision: int,
        *,
        error: str | None = None,
        findings: Any = (),
        warnings: Any = (),
    ) -> dict[str, Any]:
        return {
            "name": name,
            "path": "/automations/new" if name is None else f"/automations/{name}/edit",
            "text": text,
            "revision": revision,
            "reason": view.form.get("reason", ""),
            "schema": SCHEMA,
            "error": error,
            "findings": findings,
            "warnings": warnings,
            "said": None,
            "may_try": view.may(self._rules.run) and view.may(self._rules.read),
            **_try_fields(view),
        }

    async def trying(self, view: View) -> Mapping[str, Any]:
        """The form to try an automation that is stored."""
        check_reads(view, self._rules)
        found = await self._by_hand.writing.one(name_in(view))
        return self._trying(view, found)

    def _trying(self, view: View, found: Automation, **more: Any) -> dict[str, Any]:
        triggers = [
            (str(number), f"{number}: {trigger_in_words(one)}")
            for number, one in enumerate(found.definition.to_wire().get("triggers", []), start=1)
        ]
        return {
            "name": found.name,
            "enabled": found.definition.enabled,
            "triggers": triggers,
            "inputs": fields(found.definition, view.form or None, more.pop("errors", None)),
            **_try_fields(view),
            **more,
        }

    async def tried(self, view: View) -> Redirect | Again:
        """Try an automation that is stored; with `do` as `real`, it is done."""
        check_reads(view, self._rules)
        found = await self._by_hand.writing.one(name_in(view))
        told = await self._tried(view, found, for_real=view.form.get("do") == "real")
        if told.get("started"):
            return Redirect(f"/runs/{told['started']}", f"{found.name} is started.")
        shown = self._trying(view, found, **told)
        return Again("try-automation.html", shown, 422 if told["try_error"] else 200)

    async def _tried(self, view: View, found: Automation, *, for_real: bool) -> dict[str, Any]:
        """What it would do, or why that cannot be told; with `started`, the run that does it."""
        try:
            given = _with(view, found)
            if for_real:
                told = await self._by_hand.trying.stored(found.name, given, view.principal, for_real=True)
                if told.get("run") and not told.get("skipped"):
                    return {"started": told["run"], "try_error": None}
                why = told.get("skipped") or "no trigger matches, as shown below"
                return {"told": told, "try_error": f"It was not done: {why}."}
            return {
                "told": await self._by_hand.trying.written(found, given, view.principal),
                "try_error": None,
            }
        except WrongInputsError as wrong:
            return {"told": None, "try_error": "Some inputs are not valid.", "errors": wrong.errors}
        except Problem as problem:
            if problem.status not in (403, 409, 422):
                raise
            return {"told": None, "try_error": problem.detail}


def _saved(applied: list[Applied]) -> Redirect:
    names = ", ".join(one.written.automation.name for one in applied)
    changes = {one.written.change for one in applied}
    many = "are" if len(applied) > 1 else "is"
    told = f"{names} {many} unchanged." if changes == {None} else f"{names} {many} saved."
    warnings = _warnings(applied)
    if warnings:
        told += f" Warning: {warnings[0]['message']}" + (
            f" (and {len(warnings) - 1} more)" if warnings[1:] else ""
        )
    to = f"/automations/{applied[0].written.automation.name}" if len(applied) == 1 else "/automations"
    return Redirect(to, told)


def _warnings(applied: list[Applied]) -> list[dict[str, Any]]:
    return [warning.to_wire() for one in applied for warning in one.warnings]


def _try_fields(view: View) -> dict[str, Any]:
    """What was asked for when something was tried, as it was written."""
    given = view.form or view.query
    return {
        "trigger": given.get("trigger", ""),
        "position": given.get("position", ""),
        "payload": given.get("payload", ""),
        "told": None,
        "try_error": None,
    }


def _with(view: View, found: Automation) -> With:
    """What to try it with. Raises `Problem` and `WrongInputsError`."""
    inputs = read(found.definition, view.form)
    position = view.form.get("position", "").strip()
    trigger = view.form.get("trigger", "").strip()
    payload = view.form.get("payload", "").strip()
    if position and payload:
        raise Problem(422, detail="choose either an event from the log or your own event, not both")
    return With(
        event=number_in(position, "the event's position") if position else None,
        trigger=number_in(trigger, "the trigger", most=100) if trigger and not position else None,
        payload=_event(payload) if payload else None,
        inputs=inputs,
    )


def _event(text: str) -> dict[str, Any]:
    try:
        found = bounded_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise Problem(422, detail=f"the event is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise Problem(422, detail="the event must be a JSON object")
    return found
