"""What goes wrong, as it is told to whoever has asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ringfence.documents.reading import Finding, NotReadableError
from ringfence.web import Problem

from ringfence_automations.definitions.automations import StaleAutomationError, UnreadableAutomationError
from ringfence_automations.definitions.definition import InputsError
from ringfence_automations.definitions.permissions import NotAllowedError
from ringfence_automations.runs.compiled import NoPlanError
from ringfence_automations.triggers.trying.trying import CannotTryError

MOST_IN_WORDS = 10
"""So many findings are in the text of an answer; all are beside it."""


@contextmanager
def of_definitions() -> Iterator[None]:
    """Tell what is wrong with a definition, or with a change of one."""
    try:
        yield
    except NotReadableError as error:
        raise _told(422, "The definition is not valid", error.findings) from error
    except NotAllowedError as error:
        raise _told(403, "The definition is not allowed", error.findings) from error
    except StaleAutomationError as error:
        raise Problem(412, "The automation has changed", detail=str(error)) from error
    except UnreadableAutomationError as error:
        raise Problem(409, "The automation is newer than this release", detail=str(error)) from error


@contextmanager
def of_starts() -> Iterator[None]:
    """Tell why an automation cannot be started, or tried, so."""
    try:
        yield
    except InputsError as error:
        raise Problem(422, "The inputs do not fit", detail=str(error)) from error
    except CannotTryError as error:
        raise Problem(422, "It cannot be tried with that", detail=str(error)) from error
    except (UnreadableAutomationError, NoPlanError) as error:
        raise Problem(409, "The automation cannot be read", detail=str(error)) from error


def unknown(name: str) -> Problem:
    """There is no such automation."""
    return Problem(404, "No such automation", detail=f"there is no automation {name}")


def _told(status: int, title: str, findings: tuple[Finding, ...]) -> Problem:
    more = f"\n… and {len(findings) - MOST_IN_WORDS} more" if findings[MOST_IN_WORDS:] else ""
    lines = "\n".join(map(str, findings[:MOST_IN_WORDS]))
    return Problem(status, title, detail=f"{lines}{more}", errors=[one.to_wire() for one in findings])
