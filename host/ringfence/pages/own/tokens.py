"""API tokens: made with rules that are chosen, shown once, narrowed and revoked."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ringfence.access import (
    ACCESS_HOOKS,
    Access,
    AccessError,
    AccessRule,
    ApiToken,
    Grant,
    Principal,
    TokenNameTakenError,
)
from ringfence.http.paging import DEFAULT_LISTED, cursor, page
from ringfence.http.problems import Problem
from ringfence.pages.declared import Action, Again, Command, Found, Page, Pages, Redirect, View
from ringfence.web.host_routes import MANAGE_TOKENS, token_key, told

HOOKS = tuple(hook.name for hook in ACCESS_HOOKS)
LONGEST_NAME = 100
_HOUR = 3600
_DAY = 24 * _HOUR
LASTS = {
    "": "no expiry",
    str(_HOUR): "1 hour",
    str(_DAY): "1 day",
    str(7 * _DAY): "7 days",
    str(30 * _DAY): "30 days",
    str(90 * _DAY): "90 days",
    str(365 * _DAY): "1 year",
}


_OR = re.compile(r"\s+or\s+")
"""Between several narrowings of one rule, as they are written in one field; no label has a space in it."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What a form has chosen of the rules: each by its name, with what it is narrowed to as that is written."""

    chosen: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, form: Mapping[str, str]) -> Entered:
        """From the fields of a form: `rule:NAME` for one that is ticked, and `on:NAME` for its labels."""
        names = [key.removeprefix("rule:") for key in form if key.startswith("rule:")]
        return cls({name: form.get(f"on:{name}", "").strip() for name in names})

    @classmethod
    def of_token(cls, rules: Iterable[str]) -> Entered:
        """What a token holds."""
        held = Principal.of("", map(Grant.parse, rules))
        chosen = dict.fromkeys(held.rules, "")
        for grant in sorted(held.narrowed, key=str):
            if grant.rule not in held.rules:
                labels = ",".join(sorted(grant.labels))
                chosen[grant.rule] = f"{chosen[grant.rule]} or {labels}" if grant.rule in chosen else labels
        return cls(chosen)

    def rules(self) -> list[str]:
        """As `Access` takes them."""
        return [
            f"{name} on {labels}" if labels else name
            for name, written in self.chosen.items()
            for labels in _OR.split(written)
        ]


class TokenPages:
    """The pages."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def declared(self) -> Pages:
        """The list, each token, and making one."""
        return Pages(
            package="",
            pages=[
                Page(
                    path="/tokens",
                    title="Tokens",
                    template="tokens.html",
                    show=self.listed,
                    rule=MANAGE_TOKENS,
                    group="System",
                    order=86,
                    live=HOOKS,
                ),
                Page(
                    path="/tokens/new",
                    title="Create a token",
                    template="token-new.html",
                    show=self.new,
                    rule=MANAGE_TOKENS,
                ),
                Page(
                    path="/tokens/{id}",
                    title="Token",
                    template="token.html",
                    show=self.one,
                    rule=MANAGE_TOKENS,
                    live=HOOKS,
                ),
            ],
            actions=[
                Action(path="/tokens", title="Create a token", do=self.make, rule=MANAGE_TOKENS),
                Action(
                    path="/tokens/{id}/narrow", title="Change a token", do=self.narrow, rule=MANAGE_TOKENS
                ),
                Action(
                    path="/tokens/{id}/revoke", title="Revoke a token", do=self.revoke, rule=MANAGE_TOKENS
                ),
            ],
            commands=[Command(words="Create a token", to="/tokens/new", rule=MANAGE_TOKENS)],
            find=self.find,
        )

    async def listed(self, view: View) -> Mapping[str, Any]:
        """Tokens that hold, oldest first; with `all`, include expired and revoked ones."""
        words, every = view.query.get("q", "").strip()[:LONGEST_NAME], view.query.get("all") == "yes"
        found = await self._access.tokens(
            after=None if view.after is None else token_key(view.after),
            limit=DEFAULT_LISTED + 1,
            words=words or None,
            live=not every,
        )
        shown = page(found, DEFAULT_LISTED, lambda token: cursor(token.created_at.isoformat(), str(token.id)))
        tokens = [_shown(one, view) for one in shown.entries]
        return {"tokens": tokens, "next": shown.next, "words": words, "every": every}

    async def new(self, view: View) -> Mapping[str, Any]:
        """The form."""
        return self._form(view, name="", lasts=str(30 * _DAY), entered=Entered(), errors={})

    async def make(self, view: View) -> Redirect | Again:
        """Create a token, and show it this once."""
        name, lasts = view.form.get("name", "").strip(), view.form.get("lasts", "")
        entered = Entered.of(view.form)
        errors: dict[str, str] = {}
        if not 0 < len(name) <= LONGEST_NAME:
            errors["name"] = f"A token has a name of 1 to {LONGEST_NAME} characters."
        if lasts not in LASTS:
            errors["lasts"] = "Choose for how long it is valid."
        if not entered.chosen:
            errors["rules"] = "Choose at least one access rule."
        if not errors:
            try:
                token, secret = await self._access.create(
                    name,
                    entered.rules(),
                    by=view.principal,
                    lasts_seconds=float(lasts) if lasts else None,
                    peer=view.peer,
                )
            except TokenNameTakenError as error:
                errors["name"] = str(error)
            except AccessError as error:
                errors["rules"] = str(error)
        if errors:
            form = self._form(view, name=name, lasts=lasts, entered=entered, errors=errors)
            return Again("token-new.html", form)
        return Again("token-made.html", {"token": _shown(token, view), "secret": secret}, status=201)

    async def one(self, view: View) -> Mapping[str, Any]:
        """One token, and what it holds."""
        return self._detail(view, await self._token(view))

    async def narrow(self, view: View) -> Redirect | Again:
        """Have it hold less."""
        token, entered = await self._token(view), Entered.of(view.form)
        if not entered.chosen:
            why = "A token needs at least one rule. To remove all of them, revoke the token."
            return Again("token.html", self._detail(view, token, entered, why))
        try:
            await self._access.narrow(str(token.id), entered.rules(), by=view.principal, peer=view.peer)
        except AccessError as error:
            return Again("token.html", self._detail(view, token, entered, str(error)))
        return Redirect(f"/tokens/{token.id}", "The token is saved.")

    async def revoke(self, view: View) -> Redirect | Again:
        """End it."""
        with told():
            await self._access.revoke(view.parameters["id"], by=view.principal, peer=view.peer)
        return Redirect("/tokens", "The token is revoked.")

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Tokens by their name."""
        if not view.may(MANAGE_TOKENS):
            return ()
        found = await self._access.tokens(limit=5, words=words, live=True)
        return [Found(one.name, f"/tokens/{one.id}", "token") for one in found]

    async def _token(self, view: View) -> ApiToken:
        try:
            token = await self._access.token(UUID(view.parameters["id"]))
        except ValueError:
            token = None
        if token is None:
            raise Problem(404, detail="There is no token with such an id.")
        return token

    def _form(
        self, view: View, *, name: str, lasts: str, entered: Entered, errors: Mapping[str, str]
    ) -> dict[str, Any]:
        offered = [rule for rule in self._access.rules.values() if view.principal.holds_somewhere(rule.name)]
        return {
            "groups": _by_plugin(offered, entered, reach=view.principal),
            "given": {"name": name, "lasts": lasts},
            "lasts": LASTS,
            "errors": {key: errors.get(key) for key in ("name", "lasts", "rules")},
        }

    def _detail(
        self, view: View, token: ApiToken, entered: Entered | None = None, error: str | None = None
    ) -> dict[str, Any]:
        held = Principal.of(token.name, map(Grant.parse, token.rules))
        known = [rule for rule in self._access.rules.values() if held.holds_somewhere(rule.name)]
        return {
            "token": _shown(token, view),
            "groups": _by_plugin(known, entered or Entered.of_token(token.rules), reach=held),
            "unknown": [rule for rule in token.rules if Grant.parse(rule).rule not in self._access.rules],
            "error": error,
        }


def _by_plugin(
    rules: Iterable[AccessRule], entered: Entered, *, reach: Principal
) -> dict[str, list[dict[str, Any]]]:
    """The rules to choose from, by the plugin that each is of. `reach`: who has them to give."""
    found: dict[str, list[dict[str, Any]]] = {}
    for rule in sorted(rules, key=lambda rule: (rule.plugin != "host", rule.name)):
        labels = reach.reach(rule.name)
        found.setdefault(rule.plugin, []).append(
            {
                "name": rule.name,
                "description": rule.description,
                "narrowable": rule.narrowable,
                "ticked": rule.name in entered.chosen,
                "on": entered.chosen.get(rule.name, ""),
                "within": None if labels is None else [",".join(sorted(one)) for one in labels],
            }
        )
    return found


def _shown(token: ApiToken, view: View) -> dict[str, Any]:
    expired = token.expires_at is not None and token.expires_at <= view.now
    state = "revoked" if token.revoked_at else "expired" if expired else "valid"
    soon = (
        state == "valid"
        and token.expires_at is not None
        and token.expires_at - view.now < dt.timedelta(days=7)
    )
    return {
        "id": token.id,
        "name": token.name,
        "state": state,
        "look": "warn" if soon else "good" if state == "valid" else "off",
        "mine": str(token.id) == view.token,
        "rules": token.rules,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "last_used_at": token.last_used_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }
