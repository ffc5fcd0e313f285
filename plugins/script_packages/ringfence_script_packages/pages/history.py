"""The pages of the policy's history: what each revision has changed, going back, and verification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ringfence import AccessRule
from ringfence.bounded import Reason
from ringfence.declaring import Held
from ringfence.eventlog import Anchor
from ringfence.pages import Action, Again, Command, Page, Redirect, View
from ringfence.refusals import in_words
from ringfence.sandbox.policy import changes, receive
from ringfence.web import Problem, number_of, page

from ringfence_script_packages.hooks import SandboxPolicyChanged, sandbox_policy_changed
from ringfence_script_packages.pages import showing
from ringfence_script_packages.policy_store import (
    NewerPolicyError,
    SandboxPolicies,
    StaleRevisionError,
    UnknownRevisionError,
)
from ringfence_script_packages.previewing import Previews
from ringfence_script_packages.verifying import Verifying

LISTED = 25
HIGHEST = 2**62
_REASON: TypeAdapter[str] = TypeAdapter(Reason)


class HistoryPages:
    """The pages, and what their forms do."""

    def __init__(
        self, policies: SandboxPolicies, previews: Previews, verifying: Verifying, rule: AccessRule
    ) -> None:
        self._policies = policies
        self._previews = previews
        self._verifying = verifying
        self._rule = rule

    def pages(self) -> list[Page]:
        """What is shown."""
        live = (sandbox_policy_changed.name,)
        rule = self._rule
        return [
            Page(
                path="/policy/history",
                title="History of the policy",
                template="policy-history.html",
                show=self.history,
                rule=rule,
                group="Scripts",
                order=21,
                live=live,
            ),
            Page(
                path="/policy/history/{revision}",
                title="A revision of the policy",
                template="policy-revision.html",
                show=self.revision,
                rule=rule,
            ),
            Page(
                path="/policy/revert",
                title="Revert the policy",
                template="policy-revert.html",
                held=self._held,
                show=self.reverting,
                rule=rule,
            ),
        ]

    async def _held(self, _: View) -> Held | None:
        return await self._policies.held()

    def actions(self) -> list[Action]:
        """What forms do."""
        return [
            Action(path="/policy/revert", title="Revert the policy", do=self.revert, rule=self._rule),
            Action(path="/policy/verify", title="Verify the history", do=self.verify, rule=self._rule),
        ]

    def commands(self) -> list[Command]:
        """What the palette offers."""
        return [
            Command(words="Revert the last change of the policy", to="/policy/revert", rule=self._rule),
            Command(words="Verify the policy's history", to="/policy/history#verify", rule=self._rule),
        ]

    async def history(self, view: View) -> Mapping[str, Any]:
        """The revisions, newest first."""
        before = HIGHEST if view.after is None else min(HIGHEST, number_of(view.after))
        found = await self._policies.history(before=before, limit=LISTED + 1)
        listed = page(found, LISTED, lambda fact: str(fact.revision))
        current = self._policies.known() or await self._policies.confirmed()
        return {
            "revisions": [_told(fact) for fact in listed.entries],
            "current": current.revision,
            "next": listed.next,
            "verified": await self._verifying.lately(),
        }

    async def revision(self, view: View) -> Mapping[str, Any]:
        """One revision: what it changed, and the whole policy; with `?compare=`, what differs from another one."""
        number = _number(view.parameters["revision"])
        compare = view.query.get("compare", "").strip()
        current = self._policies.known() or await self._policies.confirmed()
        try:
            state = await self._policies.at(number)
            other = await self._policies.at(_number(compare) if compare else max(0, number - 1))
        except UnknownRevisionError as error:
            raise Problem(404, detail=str(error)) from error
        found = await self._policies.history(before=number + 1, limit=1) if number else []
        old, new = showing.lines(changes(receive(dict(other.wire)).policy, state.received.policy))
        return {
            "number": number,
            "other": other.revision,
            "current": current.revision,
            "fact": found[0] if found else None,
            "old": old,
            "new": new,
            "document": showing.policy_lines(state.received.policy),
            "not_understood": state.received.not_understood,
        }

    async def reverting(self, view: View) -> Mapping[str, Any]:
        """What going back would do; without `?to=`, to the revision before the one that holds."""
        current = await self._policies.confirmed()
        to = view.query.get("to", "")
        if not to and current.revision == 0:
            return {"nothing": True}
        return await self._reverting(view, _number(to) if to else current.revision - 1)

    async def revert(self, view: View) -> Redirect | Again:
        """Go back, unless somebody has changed the policy meanwhile, or it has to be agreed to."""
        to, base = _number(view.form.get("to", "")), _number(view.form.get("base", ""))
        shown = await self._reverting(view, to)
        foreseen = shown["preview"]
        if shown["base"] != base:
            return Again("policy-revert.html", {**shown, "moved": True}, status=409)
        try:
            reason = _REASON.validate_python(view.form.get("reason", "").strip())
        except ValidationError as error:
            return Again("policy-revert.html", {**shown, "reason_error": in_words(error.errors()[0])})
        if not reason:
            wrong = "enter a reason for the history"
            return Again("policy-revert.html", {**shown, "reason_error": wrong})
        if foreseen["asks"] and not foreseen["sure"]:
            return Again("policy-revert.html", {**shown, "ask": True})
        try:
            written = await self._policies.revert(to, actor=view.principal.name, reason=reason, expected=base)
        except StaleRevisionError:
            return Again("policy-revert.html", {**await self._reverting(view, to), "moved": True}, status=409)
        said = f"The policy of revision {to} is restored as revision {written.state.revision}."
        return Redirect("/policy/history", said if written.changed else "Nothing changed.")

    async def verify(self, view: View) -> Redirect | Again:
        """Compute the chain anew; with an anchor, look for that in it."""
        noted = view.form.get("anchor", "").strip()
        wrong, verified = None, None
        try:
            verified = await self._verifying.now(Anchor.parse(noted) if noted else None)
        except ValueError as error:
            wrong = str(error)
        data = {"verified": verified, "wrong": wrong, "anchor": noted}
        return Again("policy-verified.html", data, status=200 if verified else 422)

    async def _reverting(self, view: View, to: int) -> dict[str, Any]:
        try:
            decide = await self._policies.reverting(to)
            current, after = await self._policies.proposed(decide, expected=None)
        except UnknownRevisionError as error:
            raise Problem(404, detail=str(error)) from error
        except NewerPolicyError as error:
            raise Problem(409, "The policy is newer than this release", detail=str(error)) from error
        return {
            "nothing": False,
            "to": to,
            "base": current.revision,
            "reason": view.form.get("reason", f"revert to revision {to}"),
            "reason_error": None,
            "preview": showing.preview(await self._previews.of(current, after), view.form),
            "ask": False,
            "moved": False,
        }


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Problem(404, detail="there is no such revision")
    return int(text)


def _told(fact: SandboxPolicyChanged) -> dict[str, Any]:
    old, new = showing.lines([(one.path, one.before, one.after) for one in fact.changes])
    return {"fact": fact, "old": old, "new": new, "paths": [one.path for one in fact.changes]}
