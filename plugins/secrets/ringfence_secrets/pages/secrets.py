"""What the pages of secrets show, and what their forms do.

Threat: a value that was typed comes back in a page, where others read it or a browser keeps it. Mechanism: nothing that
a page is filled with holds what stood in a field for a value, nor a name that is none, which might be a value that was
typed into the wrong field; errors are about rules and not about what was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ringfence import AccessRule
from ringfence.pages import Action, Again, Attention, Command, Count, Found, Page, Pages, Redirect, View
from ringfence.web import DEFAULT_LISTED, Problem, page

from ringfence_secrets.service import SecretError
from ringfence_secrets.uses import MOST_USERS, Uses
from ringfence_secrets.vault import Vault
from ringfence_secrets.written import WrongNameError, WrongValueError, check_name, check_value

LIVE = (
    "secret-changed",
    "health-check-changed",
    "automation-changed",
    "notification-settings-changed",
)
"""After these another thing may use a secret, or none."""
MOST_FOUND = 10
MOST_NAMED = 3
MOST_MISSING = 100
_WRONG_NAME = (
    "This is not a valid name for a secret: use letters, digits, hyphens and underscores, such as API_TOKEN or "
    "db-password, and no variable that steers how a program starts."
)
_BOTH = "Enter the value in one of the two fields, and leave the other one empty."


class SecretsPages:
    """The pages, over one instance. `has_other_stores`: secrets may also be where nothing here looks."""

    def __init__(self, vault: Vault, uses: Uses, rule: AccessRule, *, has_other_stores: bool) -> None:
        self._vault = vault
        self._uses = uses
        self._rule = rule
        self._has_other_stores = has_other_stores

    def pages(self) -> Pages:
        """All of them."""
        rule = self._rule
        return Pages(
            package="ringfence_secrets.pages",
            pages=[
                Page(
                    path="/secrets",
                    title="Secrets",
                    template="secrets.html",
                    show=self.listed,
                    rule=rule,
                    group="Configuration",
                    order=66,
                    live=LIVE,
                ),
                Page(
                    path="/secrets/{name}",
                    title="Secret",
                    template="secret.html",
                    show=self.one,
                    rule=rule,
                    live=LIVE,
                ),
            ],
            actions=[
                Action(path="/secrets", title="Set a secret", do=self.set, rule=rule),
                Action(path="/secrets/reseal", title="Encrypt again", do=self.reseal, rule=rule),
                Action(path="/secrets/{name}/set", title="Change the value", do=self.rotate, rule=rule),
                Action(path="/secrets/{name}/delete", title="Delete a secret", do=self.delete, rule=rule),
            ],
            commands=[Command(words="Set a secret", to="/secrets#set", rule=rule)],
            attention=self.attention,
            counts=self.counts,
            find=self.find,
        )

    async def listed(self, view: View) -> Mapping[str, Any]:
        """The list, with what is used and missing."""
        words = view.query.get("q", "").strip()[:64] or None
        found = await self._vault.records(after=view.after or "", limit=DEFAULT_LISTED + 1, words=words)
        shown = page(found, DEFAULT_LISTED, lambda record: record.name)
        used = await self._uses.counted()
        return {
            "secrets": [{"record": one, "used": used.get(one.name, 0)} for one in shown.entries],
            "next": shown.next,
            "words": words,
            "missing": [{"name": name, "used": used[name]} for name in await self._missing(used)],
            "has_other_stores": self._has_other_stores,
            "given": view.query.get("name", "")[:64],
            "errors": {},
        }

    async def one(self, view: View) -> Mapping[str, Any]:
        """One secret: who uses it, and the forms."""
        name = view.parameters["name"]
        record = await self._vault.one(name)
        if record is None:
            raise _unknown(name)
        users = await self._uses.of(name)
        return {
            "record": record,
            "users": users[:MOST_USERS],
            "more": max(0, len(users) - MOST_USERS),
            "loses": _loses(name, users),
            "errors": {},
        }

    async def set(self, view: View) -> Redirect | Again:
        """Set a secret that is named in the form."""
        name, errors = view.form.get("name", "").strip(), dict[str, str]()
        try:
            check_name(name)
        except WrongNameError:
            errors["name"], name = _WRONG_NAME, ""
        value = _value(view, errors)
        if not errors and value is not None:
            await self._store(view, name, value, errors)
        if errors:
            return Again("secrets.html", {**await self.listed(view), "given": name, "errors": errors})
        return Redirect("/secrets", f"{name} is set.")

    async def rotate(self, view: View) -> Redirect | Again:
        """Give a secret that there is another value."""
        name, errors = view.parameters["name"], dict[str, str]()
        shown = await self.one(view)
        value = _value(view, errors)
        if not errors and value is not None:
            await self._store(view, name, value, errors)
        if errors:
            return Again("secret.html", {**shown, "errors": errors})
        return Redirect(f"/secrets/{name}", f"{name} has a new value. Scripts that start from now on get it.")

    async def delete(self, view: View) -> Redirect | Again:
        """Forget a secret."""
        name = view.parameters["name"]
        if not await self._vault.delete(name, by=view.principal.name):
            raise _unknown(name)
        return Redirect("/secrets", f"{name} is deleted.")

    async def reseal(self, _: View) -> Redirect | Again:
        """Encrypt with the current key what was encrypted with an older one."""
        try:
            count = len(await self._vault.reseal())
        except SecretError as error:
            raise Problem(409, "A secret cannot be encrypted again", detail=str(error)) from error
        return Redirect(
            "/secrets", f"{_many(count, 'value', 'values')} encrypted again, with the current key."
        )

    async def attention(self, view: View) -> Sequence[Attention]:
        """Secrets that something uses, and that there are not."""
        if not view.may(self._rule):
            return ()
        used = await self._uses.counted()
        missing = await self._missing(used)
        if not missing:
            return ()
        named = ", ".join(missing[:MOST_NAMED])
        more = len(missing) - MOST_NAMED
        text = (
            f"{named} and {more} more are used and missing." if more > 0 else f"{named}: used, and missing."
        )
        return [Attention(text=f"Secrets: {text}", to="/secrets", kind="bad", weight=60)]

    async def counts(self, view: View) -> Sequence[Count]:
        """How many there are."""
        if not view.may(self._rule):
            return ()
        return [Count(what="secrets", number=await self._vault.count(), to="/secrets")]

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Secrets whose names have these words."""
        if not view.may(self._rule):
            return ()
        found = await self._vault.records(limit=MOST_FOUND, words=words)
        return [Found(words=one.name, to=f"/secrets/{one.name}", kind="secret") for one in found]

    async def _missing(self, used: Mapping[str, int]) -> Sequence[str]:
        """What is used, and is not there. Of what other stores have nothing is known without asking for values."""
        if self._has_other_stores or not used:
            return ()
        return sorted(await self._vault.lacking(used.keys()))[:MOST_MISSING]

    async def _store(self, view: View, name: str, value: str, errors: dict[str, str]) -> None:
        try:
            check_value(value)
            await self._vault.set(name, value, by=view.principal.name)
        except (WrongValueError, SecretError) as error:
            errors["value"] = f"{error}."


def _value(view: View, errors: dict[str, str]) -> str | None:
    """The value of a form: that of its one line, or of its several."""
    line, lines = view.form.get("value", ""), view.form.get("lines", "")
    if line and lines:
        errors["value"] = _BOTH
        return None
    return line or lines


def _loses(name: str, users: Sequence[str]) -> str:
    """What deleting a secret does, in words."""
    if not users:
        return f"{name} is deleted, and its value cannot be recovered. Nothing uses it, as far as the plugins know."
    named = ", ".join(users[:MOST_NAMED])
    more = len(users) - MOST_NAMED
    rest = f" and {more} more" if more > 0 else ""
    return (
        f"{name} is deleted, and its value cannot be recovered. Without it, these cannot run: {named}{rest}."
    )


def _unknown(name: str) -> Problem:
    return Problem(404, "No such secret", detail=f"The built-in store has no secret {name}.")


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
