"""Placeholders in what a script is given: `{satellite.name}`, `{vars.disk_warn}`, `{db-password}`. Pure.

- A name with a dot is a *fact* about the place, which whoever places the script fills in.
- A name without one is a *secret*, which is filled in where the script runs, just before it does.
- `{{name}}` is `{name}` itself. `${name}` and `%{name}` are a shell's and curl's own, and are left as they are, as is
  whatever in braces is no name (JSON, awk).

Threat: a value that is filled in holds a placeholder of its own, and so gets at what was not meant for it. Mechanism:
what is filled in first is escaped against what is filled in later. Not covered: whether the values are true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*"
_PLACEHOLDER = re.compile(rf"\{{\{{({_NAME})\}}\}}|(?<![$%{{])\{{({_NAME})\}}")


class UnknownPlaceholderError(ValueError):
    """A text names what is not there; the message says what."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{{{name}}} is not known here; write {{{{{name}}}}} if it is meant as it stands")


def facts_in(texts: Iterable[str]) -> frozenset[str]:
    """The facts that these texts name."""
    return frozenset(name for text in texts for name in _names(text) if "." in name)


def secrets_in(texts: Iterable[str]) -> frozenset[str]:
    """The secrets that these texts name."""
    return frozenset(name for text in texts for name in _names(text) if "." not in name)


def with_facts(text: str, facts: Mapping[str, str]) -> str:
    """The text with the facts filled in; its secrets are left. Raises `UnknownPlaceholderError`."""
    return _filled(text, lambda name: escaped(_known(name, facts)) if "." in name else None)


def with_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """The text with the secrets filled in, and what was escaped as it is meant. Raises `UnknownPlaceholderError`."""
    return _filled(text, lambda name: _known(name, secrets), unescape=True)


def as_meant(text: str) -> str:
    """A text in which there are no secrets, with what was escaped as it is meant."""
    return _filled(text, lambda name: None, unescape=True)


def with_stand_ins(text: str, names: Collection[str], stand_in: str) -> str:
    """The text with `stand_in` for each of these secrets; all else in it is left, and is still to be filled in."""
    return _filled(text, lambda name: escaped(stand_in) if name in names else None)


def _names(text: str) -> list[str]:
    return [found[2] for found in _PLACEHOLDER.finditer(text) if found[2] is not None]


def _filled(text: str, value: Callable[[str], str | None], *, unescape: bool = False) -> str:
    def fill(found: re.Match[str]) -> str:
        if found[2] is None:
            return f"{{{found[1]}}}" if unescape else found[0]
        filled = value(found[2])
        return found[0] if filled is None else filled

    return _PLACEHOLDER.sub(fill, text)


def _known(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise UnknownPlaceholderError(name)
    return values[name]


def escaped(value: str) -> str:
    """A text that `with_secrets` and `as_meant` give back as this value, whatever it holds."""
    return _PLACEHOLDER.sub(
        lambda found: f"{{{{{found[1] or found[2]}}}}}" if found[2] else f"{{{found[0]}}}", value
    )
