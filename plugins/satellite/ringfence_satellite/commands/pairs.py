"""Labels and vars as they are written on a command line, and as they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ringfence.cli import UsageMistake


def labels_of(texts: Iterable[str]) -> dict[str, str]:
    """Labels by name: each is written `NAME=VALUE`, or `NAME` for one without a value."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def vars_of(texts: Iterable[str]) -> dict[str, str]:
    """Vars by name: each is written `NAME=VALUE`. Raises `UsageMistake`."""
    return dict(map(_var, texts))


def label_changes(texts: Iterable[str]) -> dict[str, str | None]:
    """Changes of labels by name: `NAME=VALUE` and `NAME` set one, and `NAME-` takes one off."""
    found: dict[str, str | None] = {}
    for text in texts:
        found |= {text[:-1]: None} if _takes_off(text) else labels_of([text])
    return found


def var_changes(texts: Iterable[str]) -> dict[str, str | None]:
    """Changes of vars by name: `NAME=VALUE` sets one, and `NAME-` takes one off. Raises `UsageMistake`."""
    found: dict[str, str | None] = {}
    for text in texts:
        found |= {text[:-1]: None} if _takes_off(text) else vars_of([text])
    return found


def label_texts(satellite: Mapping[str, Any]) -> Sequence[str]:
    """The labels of a satellite, and the tags that are no labels. A host of an older release knows tags alone."""
    labels: Mapping[str, str] = satellite.get("labels") or {}
    shown = [f"{name}={value}" if value else name for name, value in sorted(labels.items())]
    return [*shown, *(tag for tag in satellite.get("tags") or () if tag not in shown)]


def _takes_off(text: str) -> bool:
    return text.endswith("-") and "=" not in text


def _var(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageMistake(f"{text!r} is no var: write NAME=VALUE")
    return name, value
