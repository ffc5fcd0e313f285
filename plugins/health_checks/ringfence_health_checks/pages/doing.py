"""What the buttons on a check's page do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from pydantic import ValidationError
from ringfence.pages import Again, Redirect, View
from ringfence.redaction import describe
from ringfence.web import Problem
from sqlalchemy.exc import SQLAlchemyError

from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.pages.one_check import OneCheck
from ringfence_health_checks.pages.parts import Parts, check_id, refused
from ringfence_health_checks.running.manual_runs import Attempt, NotPlacedError
from ringfence_health_checks.silences.silences import SilenceWanted

WAIT_SECONDS = 10.0
"""How long a browser waits for a run; one that takes longer goes on, and its result comes to the page by itself."""
MOST_TOLD = 3


class Doing:
    """The actions."""

    def __init__(self, parts: Parts, page: OneCheck) -> None:
        self._parts = parts
        self._page = page

    async def silence(self, view: View) -> Redirect | Again:
        """Silence the check, or one of its places, for a while."""
        id = check_id(view)
        given = {name: view.form.get(name, "").strip() for name in ("for", "reason", "place")}
        wanted = {
            "check": str(id),
            "forSeconds": _seconds(given["for"]),
            "reason": given["reason"],
            **({"satellite": given["place"]} if given["place"] else {}),
        }
        error = None
        if not given["reason"]:
            error = "Enter a reason."
        try:
            if error is None:
                await self._parts.silences.add(SilenceWanted.model_validate(wanted), view.principal)
        except ValidationError as wrong:
            error = refused(wrong)
        except Problem as wrong:
            if wrong.title == "No such check":
                raise
            error = wrong.detail
        if error is not None:
            return Again("check.html", await self._page.shown(view, given=given, error=error))
        return Redirect(
            f"/checks/{id}",
            "The check is silenced: no notifications are sent. State changes are still recorded.",
        )

    async def end_silence(self, view: View) -> Redirect | Again:
        """End a silence now."""
        try:
            silence = UUID(view.parameters["silence"])
        except ValueError as error:
            raise Problem(404, "No such silence", detail="there is no silence with such an id") from error
        await self._parts.silences.end(silence, view.principal)
        return Redirect(f"/checks/{check_id(view)}", "The silence is ended.")

    async def run(self, view: View) -> Redirect | Again:
        """Run it now, in one of its places or in all of them."""
        check = await self._parts.changes.known(check_id(view))
        place = view.form.get("on", "").strip() or None
        done: list[Attempt | str] = []
        running = self._parts.context.spawn(self._ran(check, place, done), name=f"run of {check.id}")
        await asyncio.wait({running}, timeout=WAIT_SECONDS)
        return Redirect(f"/checks/{check.id}", _words(done, is_over=running.done()))

    async def enable(self, view: View) -> Redirect | Again:
        """Have it run again."""
        return await self._switch(view, enabled=True)

    async def disable(self, view: View) -> Redirect | Again:
        """Have it run no more."""
        return await self._switch(view, enabled=False)

    async def delete(self, view: View) -> Redirect | Again:
        """Delete it, with all its results."""
        await self._parts.changes.delete(check_id(view), view.principal)
        return Redirect("/checks", "The check is deleted, with its results.")

    async def _switch(self, view: View, *, enabled: bool) -> Redirect | Again:
        check = await self._parts.changes.change(check_id(view), {"enabled": enabled}, view.principal)
        said = (
            "The check is enabled."
            if enabled
            else "The check is disabled: it does not run and sends no notifications."
        )
        return Redirect(f"/checks/{check.id}", said)

    async def _ran(self, check: Check, place: str | None, done: list[Attempt | str]) -> None:
        try:
            done += await self._parts.runs.run(check, place=place)
        except NotPlacedError as error:
            done.append(str(error))
        except (SQLAlchemyError, OSError) as error:
            done.append(f"the database does not answer: {describe(error)}")


def _seconds(text: str) -> float | str:
    """A number as one; what is none is left to be refused."""
    try:
        return float(text)
    except ValueError:
        return text


def _words(done: Sequence[Attempt | str], *, is_over: bool) -> str:
    if not is_over:
        return "It is running. Results appear here when they are ready."
    told = [
        one
        if isinstance(one, str)
        else f"{one.name}: {one.result.verdict.status}"
        if one.result is not None
        else f"{one.name}: {one.error}"
        for one in done
    ]
    more = len(told) - MOST_TOLD
    return "It has run. " + ", ".join(told[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "") + "."
