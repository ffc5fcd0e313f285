"""Labels and vars of satellites: which names and values there may be, and how tags are read as labels. Pure.

Labels go by Kubernetes' rules (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/). A tag is
what earlier releases had in place of labels: any line of text. One that fits the rules is a label: `web` one without a
value, `env=dev` one with a value. One that does not fit is a tag and nothing else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from ringfence.bounded import STORABLE

MAX_LABELS = 50
MAX_VARS = 100
MAX_VAR = 1000
"""The longest value of a var, in characters."""

_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_MAX_PREFIX = 253
_MAX_WORD = 63


def key_fault(key: str) -> str | None:
    """Why `key` is no label's name; None if it is one."""
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= _MAX_PREFIX and _PREFIX.fullmatch(prefix)):
        return (
            f"the part before the slash of {shown(key)} must be a DNS name in lower case, "
            f"of at most {_MAX_PREFIX} characters"
        )
    if not (len(name) <= _MAX_WORD and _WORD.fullmatch(name)):
        return f"{shown(name)} is no label's name: {_WORD_RULE}"
    return None


def value_fault(value: str) -> str | None:
    """Why `value` is no label's value; None if it is one. It may be empty."""
    if not value or (len(value) <= _MAX_WORD and _WORD.fullmatch(value)):
        return None
    return f"{shown(value)} is no label's value: {_WORD_RULE}"


def shown(text: str) -> str:
    """`text` as an error shows it: in quotes, and not longer than a line."""
    return repr(text if len(text) <= 2 * _MAX_WORD else text[: 2 * _MAX_WORD] + "…")


@functools.lru_cache(maxsize=16_384)  # A fleet has few tags, each on many satellites.
def label_of(tag: str) -> tuple[str, str] | None:
    """The name and the value that a tag is the label of; None if it is none."""
    key, _, value = tag.partition("=")
    return (key, value) if key_fault(key) is None and value_fault(value) is None else None


def merged(tags: Iterable[str], labels: Mapping[str, str]) -> dict[str, str]:
    """All labels: `labels`, and of the tags those that are labels.

    A name has one value: a label's goes before a tag's, and an earlier tag's before a later one's.
    """
    of_tags: dict[str, str] = {}
    for label in map(label_of, tags):
        if label is not None:
            of_tags.setdefault(*label)
    return of_tags | dict(labels)


def carried(tags: Iterable[str], labels: Mapping[str, str]) -> frozenset[str]:
    """The same as texts: the tags as they are, and each label with a value as `name=value`."""
    return frozenset(tags).union(f"{key}={value}" for key, value in labels.items())


def _checked_key(key: str) -> str:
    if (fault := key_fault(key)) is not None:
        raise ValueError(fault)
    return key


def _checked_value(value: str) -> str:
    if (fault := value_fault(value)) is not None:
        raise ValueError(fault)
    return value


_WORD_RULE = (
    f"at most {_MAX_WORD} letters, digits, hyphens, underscores and dots, "
    "with a letter or a digit at the beginning and at the end"
)

LabelKey = Annotated[str, AfterValidator(_checked_key)]
LabelValue = Annotated[str, AfterValidator(_checked_value)]
VarName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
VarValue = Annotated[str, StringConstraints(max_length=MAX_VAR), STORABLE]
