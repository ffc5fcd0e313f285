"""The page of the sandbox policy: every setting with what it means, what a change would do, and two changes at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ringfence import AccessRule
from ringfence.bounded import Reason
from ringfence.declaring import Held
from ringfence.pages import Action, Again, Command, Data, Page, Redirect, View
from ringfence.refusals import in_words
from ringfence.sandbox.policy import DEFAULT_POLICY, NetworkMode, PolicyError, SandboxPolicy, overlay
from ringfence.web import Problem
from starlette.responses import JSONResponse, Response

from ringfence_script_packages.hooks import sandbox_policy_changed
from ringfence_script_packages.pages import showing
from ringfence_script_packages.pages.entered import (
    DEFAULTS,
    WHOLE,
    Entered,
    layers,
    leaves,
    nested,
    schema,
    settings,
)
from ringfence_script_packages.pages.merging import Conflict, Merge, merge
from ringfence_script_packages.policy_store import (
    NewerPolicyError,
    SandboxPolicies,
    StaleRevisionError,
    UnknownRevisionError,
)
from ringfence_script_packages.previewing import Previews
from ringfence_script_packages.service import PolicyState
from ringfence_script_packages.weaknesses import weaknesses

MOST_SINCE = 10
"""How many changes by others are told of beside a merge."""
_REASON: TypeAdapter[str] = TypeAdapter(Reason)


class PolicyPage:
    """The page, and what its forms do."""

    def __init__(self, policies: SandboxPolicies, previews: Previews, rule: AccessRule) -> None:
        self._policies = policies
        self._previews = previews
        self._rule = rule

    def pages(self) -> list[Page]:
        """What is shown."""
        return [
            Page(
                path="/policy",
                title="Sandbox policy",
                template="policy.html",
                show=self.show,
                rule=self._rule,
                group="Scripts",
                order=20,
                live=(sandbox_policy_changed.name,),
                held=self._held,
            )
        ]

    async def _held(self, _: View) -> Held | None:
        return await self._policies.held()

    def actions(self) -> list[Action]:
        """What forms do."""
        return [
            Action(path="/policy", title="Sandbox policy", do=self.save, rule=self._rule),
            Action(path="/policy/preview", title="Sandbox policy", do=self.preview, rule=self._rule),
            Action(path="/policy/merge", title="Merge two changes", do=self.merged, rule=self._rule),
            Action(path="/policy/deny-network", title="Deny all network", do=self.deny, rule=self._rule),
        ]

    def data(self) -> list[Data]:
        """What the editor asks for."""
        return [Data(path="/policy/schema", answer=self.schema, rule=self._rule)]

    def commands(self) -> list[Command]:
        """What the palette offers."""
        return [
            Command(words="Edit the policy", to="/policy", rule=self._rule),
            Command(
                words="Deny all network",
                to="/policy/deny-network",
                rule=self._rule,
                form={"go": "yes"},
                ask="No script can connect to anything from then on. Checks that need the network fail.",
            ),
        ]

    async def schema(self, _: View) -> Response:
        """The JSON schema of a policy."""
        return JSONResponse(schema())

    async def show(self, view: View) -> Mapping[str, Any]:
        """The policy that holds; with `?allow=`, as it would be with these destinations, not saved."""
        state = self._policies.known() or await self._policies.confirmed()
        policy = state.received.policy
        as_json = view.query.get("as") == "json"
        entered = Entered.of(policy, as_json=as_json)
        if not (wanted := view.query.get("allow", "").split()):
            return _data(state, entered)
        try:
            wished = _allowing(policy, wanted)
        except PolicyError as error:
            return _data(state, entered.wrong(error.problems))
        foreseen = await self._previews.of(state, wished)
        return _data(
            state,
            Entered.of(wished, as_json=as_json),
            preview=showing.preview(foreseen, {}),
            reason=f"allow {', '.join(wanted)}"[:200],
            filled=wanted,
        )

    async def preview(self, view: View) -> Redirect | Again:
        """What was entered, and what it would do; nothing is written. `switch` shows it in the other form."""
        state = await self._policies.confirmed()
        entered, after = _entered(view)
        if after is None:
            return Again("policy.html", _data(state, entered, form=view.form), status=200)
        if view.form.get("switch") in {"json", "fields"}:
            entered = Entered.of(after, as_json=view.form["switch"] == "json")
        if (base := _revision(view)) != state.revision:
            after = await self._with_theirs(base, after, state)
        foreseen = showing.preview(await self._previews.of(state, after), view.form)
        return Again("policy.html", _data(state, entered, form=view.form, preview=foreseen), status=200)

    async def save(self, view: View) -> Redirect | Again:
        """Write what was entered, unless it is wrong, another change has come first, or has to be agreed to."""
        state = await self._policies.confirmed()
        entered, after = _entered(view)
        try:
            reason = _REASON.validate_python(view.form.get("reason", "").strip())
            wrong = None if reason else "enter a reason for the history"
        except ValidationError as error:
            reason, wrong = "", in_words(error.errors()[0])
        if after is None or wrong is not None:
            return Again("policy.html", _data(state, entered, form=view.form, reason_error=wrong))
        if (base := _revision(view)) != state.revision:
            return await self._conflict(view, base, after, state)
        foreseen = await self._previews.of(state, after)
        shown = showing.preview(foreseen, view.form)
        if not foreseen.changed:
            return Redirect("/policy", f"Nothing changed: the policy stays at revision {state.revision}.")
        if foreseen.is_questionable and not shown["sure"]:
            return Again("policy.html", _data(state, entered, form=view.form, preview=shown, ask=True))
        try:
            written = await self._policies.replace(
                after.spelled_out(), actor=view.principal.name, reason=reason, expected=base
            )
        except StaleRevisionError as error:
            return await self._conflict(view, base, after, error.current)
        return Redirect("/policy", f"The policy is now at revision {written.state.revision}.")

    async def merged(self, view: View) -> Redirect | Again:
        """Put what was entered over what somebody else has written meanwhile, as was chosen; nothing is written yet."""
        try:
            mine = SandboxPolicy.parse(json.loads(view.form.get("mine", "")))
        except (ValueError, RecursionError) as error:
            raise Problem(422, detail="your changes were not sent: go back, and reload") from error
        state = await self._policies.confirmed()
        found = await self._merge(_revision(view), mine, state)
        values, open = found.chosen(
            {
                key.removeprefix("choose."): side
                for key, side in view.form.items()
                if key.startswith("choose.")
            }
        )
        moved = view.form.get("theirs") != str(state.revision)
        if open or (moved and found.conflicts):
            return await self._conflict(view, _revision(view), mine, state, again=True)
        as_json = view.form.get("as") == "json"
        try:
            after = overlay(DEFAULT_POLICY, nested(values))
        except PolicyError as error:
            entered = Entered.of(mine, as_json=as_json).wrong(error.problems)
            return Again("policy.html", _data(state, entered, form=view.form, base=state.revision))
        shown = showing.preview(await self._previews.of(state, after), view.form)
        entered = Entered.of(after, as_json=as_json)
        return Again(
            "policy.html",
            _data(state, entered, form=view.form, preview=shown, base=state.revision, merged=True),
            status=200,
        )

    async def deny(self, view: View) -> Redirect | Again:
        """Deny all network, at once and whatever else holds."""
        try:
            written = await self._policies.amend(
                {"network": {"mode": NetworkMode.DENY.value}},
                actor=view.principal.name,
                reason="deny all network",
                expected=None,
            )
        except NewerPolicyError as error:
            raise Problem(409, "The policy is newer than this release", detail=str(error)) from error
        said = "All network is denied" if written.changed else "All network was denied already"
        return Redirect("/policy", f"{said}: the policy is at revision {written.state.revision}.")

    async def _merge(self, base: int, mine: SandboxPolicy, state: PolicyState) -> Merge:
        try:
            before = leaves((await self._policies.at(base)).received.policy)
        except UnknownRevisionError:
            before = None
        return merge(before, leaves(mine), leaves(state.received.policy))

    async def _with_theirs(self, base: int, mine: SandboxPolicy, state: PolicyState) -> SandboxPolicy:
        """What both changes would come to, with the values of `mine` where both have changed the same."""
        found = await self._merge(base, mine, state)
        values, _ = found.chosen({one.path: "mine" for one in found.conflicts})
        try:
            return overlay(DEFAULT_POLICY, nested(values))
        except PolicyError:
            return mine

    async def _conflict(
        self, view: View, base: int, mine: SandboxPolicy, state: PolicyState, *, again: bool = False
    ) -> Again:
        """Somebody else was faster: what is settled, and what is to be chosen."""
        found = await self._merge(base, mine, state)
        since = await self._policies.history(before=state.revision + 1, limit=MOST_SINCE)
        return Again(
            "policy-merge.html",
            {
                "base": base,
                "theirs": state.revision,
                "mine": json.dumps(mine.spelled_out()),
                "as_json": view.form.get("as") == "json",
                "reason": view.form.get("reason", ""),
                "conflicts": [_conflict(one, view) for one in found.conflicts],
                "of_mine": [settings()[path] for path in found.mine],
                "of_theirs": [settings()[path] for path in found.theirs],
                "since": [one for one in since if one.revision > base],
                "again": again,
            },
            status=409,
        )


def _revision(view: View) -> int:
    given = view.form.get("base", "")
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise Problem(422, detail="the form does not say which revision it is about: reload the page")
    return int(given)


def _entered(view: View) -> tuple[Entered, SandboxPolicy | None]:
    """What was sent, and the policy that it is; None where something is wrong, which is then told beside it."""
    entered = Entered.sent(view.form)
    try:
        after = overlay(DEFAULT_POLICY, entered.read())
    except PolicyError as error:
        return entered.wrong(error.problems), None
    except ValueError as error:
        return entered.wrong([str(error)]), None
    return entered, None if entered.problems else after


def _allowing(policy: SandboxPolicy, wanted: list[str]) -> SandboxPolicy:
    """A policy with these destinations as well; an allowlist that does not hold now is not made to hold by that."""
    network = policy.network
    kept = network.allow if network.mode is NetworkMode.ALLOWLIST else ()
    allow = [*kept, *(one for one in wanted if one not in kept)]
    return overlay(policy, {"network": {"mode": NetworkMode.ALLOWLIST.value, "allow": allow}})


def _data(
    state: PolicyState,
    entered: Entered,
    *,
    form: Mapping[str, str] | None = None,
    base: int | None = None,
    reason: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What the template is filled with; a form that was sent keeps the revision and the reason that it had."""
    form = form or {}
    sent = form.get("base", "")
    began = base if base is not None else int(sent) if sent.isdigit() and len(sent) <= 18 else state.revision
    present = leaves(state.received.policy)
    return {
        "state": state,
        "base": began,
        "weak": weaknesses(state.received.policy),
        "not_understood": state.received.not_understood,
        "as_json": entered.as_json,
        "document": entered.document,
        "whole_error": entered.problems.get(WHOLE),
        "problems": len(entered.problems),
        "layers": [
            {
                "title": layer.title,
                "meaning": layer.meaning,
                "settings": [
                    {
                        "is": one,
                        "text": entered.texts[one.path],
                        "error": entered.problems.get(one.path),
                        "default": one.words(DEFAULTS[one.path]),
                        "now": one.words(present[one.path]),
                        "effect": one.effect(present[one.path]),
                        "changed": present[one.path] != DEFAULTS[one.path],
                        "rows": min(12, max(3, entered.texts[one.path].count("\n") + 2)),
                    }
                    for one in layer.settings
                ],
            }
            for layer in layers()
        ],
        "reason": form.get("reason", "") if reason is None else reason,
        "reason_error": None,
        "preview": None,
        "ask": False,
        "filled": (),
        "merged": False,
        **more,
    }


def _conflict(one: Conflict, view: View) -> dict[str, Any]:
    setting = settings()[one.path]
    sides = {"theirs": one.theirs, "mine": one.mine} | ({} if one.both is None else {"both": one.both})
    return {
        "is": setting,
        "base": setting.spelled(one.base) or setting.words(one.base),
        "sides": [(side, setting.spelled(value) or setting.words(value)) for side, value in sides.items()],
        "chosen": view.form.get(f"choose.{one.path}"),
    }
