"""What stands in the paths of pages, read. Whatever cannot be a name or an id is not there."""

from __future__ import annotations

from uuid import UUID

from ringfence.pages import View
from ringfence.web import Problem, require_on

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.problems import unknown
from ringfence_automations.definitions.parts import NAME


def name_in(view: View) -> str:
    """The name of an automation. Raises `Problem`."""
    name = view.parameters["name"]
    if not NAME.fullmatch(name):
        raise unknown(name)
    return name


def id_in(view: View) -> UUID:
    """The id of a run. Raises `Problem`."""
    try:
        return UUID(view.parameters["id"])
    except ValueError:
        raise Problem(404, "No such run", detail="there is no run with such an id") from None


def number_in(text: str, what: str, *, most: int = 2**62) -> int:
    """A number that somebody has written. Raises `Problem`."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise Problem(422, detail=f"{what} must be a number")
    return int(text)


def check_reads(view: View, rules: AccessRules) -> None:
    """Raise `Problem` for somebody who may change or run automations, and may not see them."""
    require_on(view.principal, rules.read, ())
