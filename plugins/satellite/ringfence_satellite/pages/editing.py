"""The forms with which satellites are added, changed, given new tokens and deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError
from ringfence import PluginContext
from ringfence.pages import Again, OutdatedFormError, Redirect, View, exact, require_current, version_of
from ringfence.refusals import in_words
from ringfence.web import Problem

from ringfence_satellite.labels import label_of
from ringfence_satellite.pages.finding import id_of
from ringfence_satellite.pages.handing_over import handing
from ringfence_satellite.server.guarded_fleet import ChangedSatellite, GuardedFleet, NewSatellite
from ringfence_satellite.server.satellites import DEFAULT_OFFLINE_AFTER_SECONDS, Satellite

FIELDS = ("name", "region", "labels", "vars", "offline")
_OF = {"tags": "labels", "offline_after_seconds": "offline", "offlineAfterSeconds": "offline"}
"""Under which field a fault of the model's is shown."""
_CHANGED = (
    "somebody has changed this satellite since you opened the page: compare the values above with yours, and "
    "save again to replace it"
)


class Editing:
    """The forms. `page` answers what a satellite's page shows, for one that has to be shown again."""

    def __init__(
        self,
        context: PluginContext,
        guarded: GuardedFleet,
        page: Callable[[View], Awaitable[Mapping[str, Any]]],
    ) -> None:
        self._context = context
        self._guarded = guarded
        self._page = page

    def given(self, one: Satellite) -> dict[str, Any]:
        """A satellite as the form to change it has it."""
        given = _of(one)
        return {"given": given, "errors": dict.fromkeys(FIELDS), "seen": version_of(given)}

    async def new(self, _: View) -> Mapping[str, Any]:
        """The empty form."""
        empty = dict.fromkeys(FIELDS, "")
        given = {**empty, "region": "default", "offline": exact(DEFAULT_OFFLINE_AFTER_SECONDS)}
        return {"given": given, "errors": dict.fromkeys(FIELDS)}

    async def create(self, view: View) -> Redirect | Again:
        """Register a satellite, and show its credentials, this once."""
        errors = _errors_of_lines(view.form)
        if not errors:
            try:
                wanted = NewSatellite.model_validate(_fields(view.form))
                made, token = await self._guarded.create(wanted, view.principal)
            except (ValidationError, Problem) as error:
                errors = _errors(error)
            else:
                return self._shown(view, made, token, "is added")
        return Again("new.html", {"given": _given(view.form), "errors": dict.fromkeys(FIELDS) | errors})

    async def change(self, view: View) -> Redirect | Again:
        """Describe a satellite otherwise."""
        id = id_of(view.parameters["id"])
        shown, form = await self._page(view), dict(view.form)
        if _lines(form.get("vars", "")) == _lines(shown["given"]["vars"]):
            # One that has several lines, by the API, is no entry a line: what was not touched stays as it is.
            form.pop("vars", None)
        errors, status = _errors_of_lines(form), 422

        if not errors:
            try:
                before = shown["satellite"]
                wanted = ChangedSatellite.model_validate(_changes(form, before))
                changed = await self._guarded.change(
                    id, wanted, view.principal, check=lambda one: require_current(view.form, _of(one))
                )
            except OutdatedFormError:
                # As it is by now, which may be newer than what was looked at above.
                shown, errors, status = await self._page(view), {"name": _CHANGED}, 409
            except (ValidationError, Problem) as error:
                errors = _errors(error)
            else:
                return Redirect(f"/satellites/{id}", f"{changed.name} is changed.")
        data = {
            **shown,
            "given": _given(view.form),
            "errors": dict.fromkeys(FIELDS) | errors,
        }
        return Again("satellite.html", data, status)

    async def rotate(self, view: View) -> Redirect | Again:
        """Give it another token, and show that, this once."""
        id = id_of(view.parameters["id"])
        satellite, token = await self._guarded.rotate_token(id, view.principal)
        return self._shown(view, satellite, token, "has a new token")

    async def delete(self, view: View) -> Redirect | Again:
        """Remove it."""
        await self._guarded.delete(id_of(view.parameters["id"]), view.principal)
        return Redirect("/satellites", "The satellite is deleted, and its agent is disconnected.")

    def _shown(self, view: View, satellite: Satellite, token: str, said: str) -> Again:
        told = handing(satellite, token, address_for(self._context, view))
        return Again("credentials.html", {"handing": told, "done": said}, status=200)


def address_for(context: PluginContext, view: View) -> str:
    """Where agents reach the host, as far as it knows: what it was told, or what the browser has asked."""
    return context.settings.public_url or view.origin


def _of(one: Satellite) -> dict[str, str]:
    return {
        "name": one.name,
        "region": one.region,
        "labels": "\n".join(sorted(one.profile.carried)),
        "vars": "\n".join(f"{name}={value}" for name, value in sorted(one.vars.items())),
        "offline": exact(one.offline_after_seconds),
    }


def _given(form: Mapping[str, str]) -> dict[str, str]:
    return {name: form.get(name, "") for name in FIELDS}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _errors_of_lines(form: Mapping[str, str]) -> dict[str, str]:
    errors = {}
    if wrong := [line for line in _lines(form.get("vars", "")) if "=" not in line]:
        errors["vars"] = f"{wrong[0][:80]!r} is not a variable: write NAME=VALUE, one per line"
    try:
        float(form.get("offline") or "0")
    except ValueError:
        errors["offline"] = "must be a number of seconds"
    return errors


def _fields(form: Mapping[str, str]) -> dict[str, Any]:
    """What a new satellite is to be, as the API takes it."""
    labels = _lines(form.get("labels", ""))
    with_value = {line.partition("=")[0]: line.partition("=")[2] for line in labels if _has_value(line)}
    fields: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "region": form.get("region", "").strip(),
        "tags": [line for line in labels if not _has_value(line)],
        "labels": with_value,
        "vars": dict(line.split("=", 1) for line in _lines(form.get("vars", ""))),
    }
    if form.get("offline", "").strip():
        fields["offlineAfterSeconds"] = float(form["offline"])
    return fields


def _changes(form: Mapping[str, str], before: Satellite) -> dict[str, Any]:
    """The same as changes of what a satellite is; what stays as it is is not among them."""
    fields = _fields(form)
    if sorted(_lines(form.get("labels", ""))) == sorted(before.profile.carried):
        del fields["tags"], fields["labels"]
    else:
        fields["labels"] = dict.fromkeys(before.labels) | fields["labels"]
    if "vars" in form:
        fields["vars"] = dict.fromkeys(before.vars) | fields["vars"]
    else:
        del fields["vars"]
    return fields


def _has_value(line: str) -> bool:
    label = label_of(line)
    return label is not None and label[1] != ""


def _errors(error: ValidationError | Problem) -> dict[str, str]:
    """What is wrong, by field. Raises what is about no field."""
    if isinstance(error, ValidationError):
        faults = error.errors(include_url=False, include_context=False)
        return {_field(one["loc"]): in_words(one) for one in reversed(faults)}
    if error.status == 409:
        return {"name": error.detail or ""}
    if error.status == 422:
        return {"labels": error.detail or ""}
    raise error


def _field(loc: tuple[int | str, ...]) -> str:
    name = str(loc[0]) if loc else "name"
    return _OF.get(name, name)
