"""The page of all sources, the page of one, and what the overview and the palette show of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ringfence.pages import (
    Again,
    Attention,
    Count,
    Found,
    OutdatedFormError,
    Redirect,
    View,
    require_current,
    version_of,
)
from ringfence.refusals import in_words
from ringfence.web import Problem

from ringfence_gitops.access_rules import AccessRules
from ringfence_gitops.sources.source import Deletion, Source, SourceName, SourceSpec, Status
from ringfence_gitops.sources.sources import MOST_SOURCES, Sources

MOST_SHOWN = 500
MOST_FOUND = 10
_WORDS = {
    Status.SYNCED: ("in sync", "good"),
    Status.FAILED: ("failed", "bad"),
    Status.NEW: ("not yet", "warn"),
}
_TEXTS = (
    *("url", "branch", "path", "username", "tokenSecret", "sshKeySecret", "webhookSecret", "deletion"),
    *("knownHosts", "allowedSigners", "gpgKeys"),
)
_WRONG_NAME = "A name has lower-case letters, digits and -, at most 63, such as shop."


class SourcePages:
    """The pages."""

    def __init__(self, sources: Sources, rules: AccessRules) -> None:
        self._sources = sources
        self._rules = rules

    async def listed(self, view: View) -> Mapping[str, Any]:
        """All sources, what is released, and a form for another."""
        every = await self._sources.page(limit=MOST_SOURCES)
        return {
            "sources": [_shown(one) for one in every],
            "released": await self._sources.released(),
            "may_manage": view.may(self._rules.manage),
            "may_release": view.may(self._rules.release),
            "given": {"name": "", **_given(None)},
            "deletions": [one.value for one in Deletion],
            "errors": {},
        }

    async def show(self, view: View) -> Mapping[str, Any]:
        """One source."""
        source = await self._sources.one(view.parameters["name"])
        held = await self._sources.objects(source)
        return {
            "named": source.name,
            **_shown(source),
            "held": held[:MOST_SHOWN],
            "claims": await self._claims(source),
            "may_manage": view.may(self._rules.manage),
            "may_sync": view.may(self._rules.sync),
            "may_release": view.may(self._rules.release),
            "given": _given(source.spec),
            "seen": version_of(_given(source.spec)),
            "deletions": [one.value for one in Deletion],
            "changed": False,
            "errors": {},
            "webhook": None,
        }

    async def add(self, view: View) -> Redirect | Again:
        """Follow another repository."""
        form = {key: value.strip() for key, value in view.form.items()}
        name = form.get("name", "")
        errors: dict[str, str] = {}
        try:
            TypeAdapter(SourceName).validate_python(name)
        except ValidationError:
            errors["name"] = _WRONG_NAME
        spec, wrong = _spec(form, enabled=True)
        errors |= wrong
        if spec is not None and not errors:
            try:
                await self._sources.create(name, spec, view.principal)
                return Redirect(f"/gitops/{name}", f"{name} is followed.")
            except Problem as error:
                errors["name" if error.status == 409 else "url"] = f"{error}."
        shown = await self.listed(view)
        given = {key: form.get(key, "") for key in shown["given"]}
        return Again("gitops.html", {**shown, "given": given, "errors": errors})

    async def change(self, view: View) -> Redirect | Again:
        """Change how it is followed."""
        shown, name = await self.show(view), view.parameters["name"]
        form = {key: value.strip() for key, value in view.form.items()}
        given = {key: form.get(key, "") for key in shown["given"]}
        spec, errors = _spec(form, enabled=form.get("enabled") == "yes")
        if spec is not None:
            try:
                await self._sources.change(
                    name, spec, view.principal, check=lambda now: require_current(view.form, _given(now))
                )
                return Redirect(f"/gitops/{name}", f"{name} is changed.")
            except OutdatedFormError:
                return Again("source.html", {**shown, "given": given, "changed": True}, status=409)
            except Problem as error:
                errors = {"url": f"{error}."}
        return Again("source.html", {**shown, "given": given, "errors": errors})

    async def sync(self, view: View) -> Redirect:
        """Have it followed at once."""
        name = view.parameters["name"]
        await self._sources.sync(name, view.principal.name)
        return Redirect(f"/gitops/{name}", f"{name} is looked at now.")

    async def make_webhook(self, view: View) -> Again:
        """Make another address, which is shown this once."""
        path = await self._sources.make_webhook(view.parameters["name"])
        shown = await self.show(view)
        return Again("source.html", {**shown, "webhook": f"{view.origin}{path}"}, status=200)

    async def remove(self, view: View) -> Redirect:
        """Follow it no more."""
        name = view.parameters["name"]
        await self._sources.remove(name, view.principal)
        return Redirect("/gitops", f"{name} is followed no more; what it has applied stays, and is nobody's.")

    async def release(self, view: View) -> Redirect:
        """Let an object be changed by hand."""
        kind, name = view.form.get("kind", ""), view.form.get("name", "")
        reason = view.form.get("reason", "").strip()[:1000] or None
        await self._sources.release(kind, name, view.principal, reason=reason)
        return Redirect("/gitops", f"{kind} {name} can be changed by hand.")

    async def give_back(self, view: View) -> Redirect:
        """Have it come from git again."""
        kind, name = view.form.get("kind", ""), view.form.get("name", "")
        source = await self._sources.give_back(kind, name, view.principal)
        return Redirect(f"/gitops/{source}", f"{kind} {name} comes from {source} again.")

    async def attention(self, view: View) -> Sequence[Attention]:
        """Sources that cannot be followed, and objects that are released."""
        if not view.may(self._rules.read):
            return ()
        found = []
        for one in await view.once(self._every):
            if one.status is Status.FAILED and one.spec.enabled:
                words = f"The git repository {one.name} cannot be followed: {one.error}"
                found.append(Attention(words, f"/gitops/{one.name}", "bad", 65))
        if released := await self._sources.released():
            words = "object is" if len(released) == 1 else "objects are"
            found.append(
                Attention(f"{len(released)} {words} released from git.", "/gitops#released", "warn", 30)
            )
        return found[:MOST_FOUND]

    async def counts(self, view: View) -> Sequence[Count]:
        """How many objects come from git."""
        if not view.may(self._rules.read):
            return ()
        every = await view.once(self._every)
        if not every:
            return ()
        return [Count("objects from git", sum(one.objects for one in every), to="/gitops", weight=40)]

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Sources by name."""
        if not view.may(self._rules.read):
            return ()
        every = await self._sources.page(limit=MOST_SOURCES)
        wanted = words.lower()
        return [
            Found(one.name, f"/gitops/{one.name}", "git repository") for one in every if wanted in one.name
        ][:MOST_FOUND]

    async def _every(self, _: View) -> Sequence[Source]:
        return await self._sources.page(limit=MOST_SOURCES)

    async def _claims(self, source: Source) -> list[dict[str, str]]:
        """Which other sources declare what this one holds, and are refused."""
        found = []
        for other in await self._sources.page(limit=MOST_SOURCES):
            for finding in other.findings:
                if other.id != source.id and f"belongs to {source.owner}," in str(finding.get("message")):
                    found.append({"source": other.name, "what": str(finding.get("path"))})
        return found[:MOST_SHOWN]


def _shown(source: Source) -> dict[str, Any]:
    words, kind = _WORDS[source.status] if source.spec.enabled else ("off", "off")
    return {"source": source, "spec": source.spec, "state_words": words, "state_kind": kind}


def _given(spec: SourceSpec | None) -> dict[str, str]:
    """What the form's fields begin with."""
    wire = {} if spec is None else spec.to_wire()
    found = {key: str(wire.get(key) or "") for key in _TEXTS}
    if spec is None:
        found |= {"branch": "main", "username": "git", "deletion": Deletion.ORPHAN.value}
    seconds = 300 if spec is None else spec.interval_seconds
    enabled = spec is None or spec.enabled
    return {**found, "intervalSeconds": str(seconds), "enabled": "yes" if enabled else ""}


def _spec(form: Mapping[str, str], *, enabled: bool) -> tuple[SourceSpec | None, dict[str, str]]:
    """What a form says, and what is wrong with it."""
    said: dict[str, Any] = {key: form[key] for key in _TEXTS if form.get(key)}
    if seconds := form.get("intervalSeconds", ""):
        is_number = seconds.isascii() and seconds.isdigit() and len(seconds) < 9
        said["intervalSeconds"] = int(seconds) if is_number else seconds
    try:
        return SourceSpec.model_validate({**said, "enabled": enabled}), {}
    except ValidationError as error:
        errors: dict[str, str] = {}
        for one in error.errors(include_url=False, include_input=False):
            field = str(one["loc"][-1]) if one["loc"] else "url"
            errors.setdefault(field, f"{in_words(one)}.")
        return None, errors
