"""The page `/packages`: what is allowed in which set, by whom and why; the sets; what is known to be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence import AccessRule
from ringfence.declaring import Held
from ringfence.pages import Again, Redirect, View
from ringfence.scripts import DEFAULT_SET
from ringfence.scripts.packages.lock import Ecosystem
from ringfence.web import DEFAULT_LISTED, Problem, cursor, page, parts_of

from ringfence_script_packages.packages.allowlist import Allowlist
from ringfence_script_packages.packages.requirements import RequirementError, allowable, everywhere
from ringfence_script_packages.packages.sets import own_set_name
from ringfence_script_packages.packages.upkeep import Upkeep
from ringfence_script_packages.packages.users import Users
from ringfence_script_packages.pages.packages.sets import SetPages
from ringfence_script_packages.pages.packages.words import named, size

MOST_AT_ONCE = 200
MOST_REASON = 1000
MOST_FINDINGS = 50
MOST_SETS = 50
ECOSYSTEMS = [("pypi", "PyPI (Python)"), ("npm", "npm (Node.js)")]


class AllowedPages:
    """What the page shows, and what its forms do."""

    def __init__(
        self, allowlist: Allowlist, sets: SetPages, users: Users, upkeep: Upkeep, manage: AccessRule
    ) -> None:
        self._allowlist = allowlist
        self._sets = sets
        self._users = users
        self._upkeep = upkeep
        self._manage = manage

    async def show(self, view: View) -> Mapping[str, Any]:
        """What is allowed, perhaps searched; the sets that people have made; what the last audit found."""
        words = view.query.get("q", "").strip().lower()[:200] or None
        ecosystem = _ecosystem(view.query.get("ecosystem", ""))
        in_set = view.query.get("set", "").strip()[:200] or None
        found = await self._allowlist.page(
            after=_key(view.after),
            set=in_set,
            ecosystem=ecosystem,
            words=words,
            limit=DEFAULT_LISTED + 1,
        )
        shown = page(found, DEFAULT_LISTED, lambda entry: cursor(*entry.key))
        may_manage = view.may(self._manage)
        losers, held = {}, dict[str, Held]()
        in_sets = {entry.set for entry in shown.entries}
        sets = await self._sets.outlines(view, own=True, limit=MOST_SETS)
        if may_manage:
            losers = {name: await self._loses(name) for name in in_sets}
            held = dict(await self._sets.held_among(sorted(in_sets | {one["name"] for one in sets})))
        audits = await self._upkeep.audits.report()
        findings = [{**one, "set": each["set"]} for each in audits for one in each["findings"]]
        return {
            "entries": shown.entries,
            "next": shown.next,
            "losers": losers,
            "held_sets": held,
            "words": words,
            "ecosystem": "" if ecosystem is None else ecosystem.value,
            "in_set": in_set,
            "ecosystems": ECOSYSTEMS,
            "sets": sets,
            "findings": findings[:MOST_FINDINGS],
            "unaudited": sum(not one["isOfThisLock"] for one in audits),
            "more_findings": max(0, len(findings) - MOST_FINDINGS),
            "may_manage": may_manage,
            "given": {"packages": "", "ecosystem": "pypi", "set": in_set or DEFAULT_SET, "reason": ""},
            "errors": {},
        }

    async def allow(self, view: View) -> Redirect | Again:
        """Allow packages in a set."""
        form, errors = {key: value.strip() for key, value in view.form.items()}, dict[str, str]()
        given = {key: form.get(key, "") for key in ("packages", "ecosystem", "set", "reason")}
        texts = [line.strip() for line in given["packages"].splitlines() if line.strip()]
        name, reason = given["set"] or DEFAULT_SET, given["reason"] or None
        wanted = []
        ecosystem = _ecosystem(given["ecosystem"])
        if ecosystem is None:
            errors["ecosystem"] = "Choose where the packages come from."
        else:
            try:
                wanted = allowable(ecosystem, texts)
            except RequirementError as error:
                errors["packages"] = _sentence(error)
        if not texts or len(texts) > MOST_AT_ONCE:
            errors["packages"] = f"Write 1 to {MOST_AT_ONCE} packages, one a line, such as requests>=2."
        try:
            own_set_name(name)
        except ValueError as error:
            errors["set"] = f"The name {error}."
        if reason is not None and len(reason) > MOST_REASON:
            errors["reason"] = f"A reason has at most {MOST_REASON} characters."
        if "set" not in errors and (held := (await self._sets.held_among([name])).get(name)) is not None:
            errors["set"] = f"{held.sentence}."
        if errors:
            return Again("packages.html", {**await self.show(view), "given": given, "errors": errors})
        await self._allowlist.allow(name, wanted, reason=reason, by=view.principal.name)
        allowed = named([one.text for one in wanted])
        return Redirect(
            f"/packages/sets/{name}",
            f"Allowed: {allowed}. Install the set, so that scripts can import it.",
        )

    async def remove(self, view: View) -> Redirect | Again:
        """Allow a package in a set no more."""
        form = view.form
        name, written = form.get("set", ""), form.get("name", "")
        gone = Problem(404, "No such entry", detail=f"{written} is not allowed in the set {name} any more.")
        ecosystem = _ecosystem(form.get("ecosystem", ""))
        if ecosystem is None:
            raise gone
        try:
            wanted = everywhere(ecosystem, written)
        except RequirementError:
            raise gone from None
        reason = form.get("reason", "").strip()[:MOST_REASON] or None
        removed = await self._allowlist.remove(
            name, ecosystem, wanted.name, reason=reason, by=view.principal.name
        )
        if removed is None:
            raise gone
        return Redirect(
            f"/packages/sets/{name}",
            f"{wanted.name} is no longer allowed. Scripts can import it until the set is installed again.",
        )

    async def audit(self, _: View) -> Redirect | Again:
        """Ask what is known to be wrong with what is installed."""
        await self._upkeep.audits.audit()
        count = sum((await self._upkeep.audits.counts()).values())
        said = "No known vulnerabilities." if not count else f"Known vulnerabilities: {count}."
        return Redirect("/packages#audit", said)

    async def collect(self, _: View) -> Redirect | Again:
        """Delete unused files."""
        gone = await self._upkeep.collector.collect()
        return Redirect(
            "/packages",
            f"Deleted: {gone.files} files ({size(gone.bytes)}), {gone.locks} locks, and {gone.sets} sets that scripts "
            "no longer ask for.",
        )

    async def _loses(self, name: str) -> str:
        """What removing a package from a set does, in words."""
        users = list(await self._users.of(name))
        if name == DEFAULT_SET:
            users.append("every script that names no set")
        if not users:
            return f"Scripts of the set {name} can import it until the set is installed again. No check names the set."
        return f"These can import it until the set {name} is installed again, and not afterwards: {named(users)}."


def _ecosystem(text: str) -> Ecosystem | None:
    return Ecosystem(text) if text in set(Ecosystem) else None


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _key(after: str | None) -> tuple[str, str, str]:
    if after is None:
        return "", "", ""
    set, ecosystem, name = parts_of(after, 3)
    return set, ecosystem, name
