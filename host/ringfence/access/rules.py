"""What may be done, and by whom. Pure.

A rule is the right to do one thing, and none implies another. A grant is a rule that somebody was given, perhaps
narrowed to what carries certain labels: `satellite.script.run on env=dev`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

_WORD = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_ON = re.compile(r"\s+on\s+")
_LABEL = re.compile(r"[^\s,\x00-\x1f\x7f]{1,400}")
"""Room for a label by Kubernetes' rules: a prefix of 253 characters, a name and a value of 63 each."""
MOST_LABELS = 20


class AccessError(ValueError):
    """A rule or a token cannot be made as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """The right to do one thing: `<plugin>.<resource>.<action>`.

    `narrowable`: whether what it is about carries labels, so that a token may hold it for those with some labels alone.
    """

    plugin: str
    resource: str
    action: str
    description: str
    narrowable: bool = False

    def __post_init__(self) -> None:
        for word in (self.plugin, self.resource, self.action):
            if not _WORD.fullmatch(word):
                raise AccessError(f"access rule part {word!r} must be lower-case words joined by hyphens")

    @property
    def name(self) -> str:
        """How the rule is written."""
        return f"{self.plugin}.{self.resource}.{self.action}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule by its name, and the labels that what it is used on must all carry; none means that it is not narrowed."""

    rule: str
    labels: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Grant:
        """Read `RULE` or `RULE on LABEL,LABEL`.

        Raises:
            AccessError: if labels are announced and there are none, or one is not a label.
        """
        rule, *rest = _ON.split(text.strip(), maxsplit=1)
        if not rest:
            return cls(rule)
        labels = [label.strip() for label in rest[0].split(",")]
        if len(labels) > MOST_LABELS or not all(map(_LABEL.fullmatch, labels)):
            raise AccessError(
                f"{text!r}: after 'on' come 1 to {MOST_LABELS} labels with commas between them, "
                "such as: satellite.script.run on env=dev"
            )
        return cls(rule, frozenset(labels))

    def covers(self, other: Grant) -> bool:
        """Whether whoever holds this one may do all that `other` allows."""
        return self.rule == other.rule and self.labels <= other.labels

    def __str__(self) -> str:
        return f"{self.rule} on {','.join(sorted(self.labels))}" if self.labels else self.rule


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request comes from, and what they were granted.

    `rules` are the names of those that they hold without narrowing.
    """

    name: str
    rules: frozenset[str]
    narrowed: frozenset[Grant] = field(default=frozenset())

    @classmethod
    def of(cls, name: str, grants: Iterable[Grant]) -> Principal:
        """The principal that holds these grants."""
        every = frozenset(grants)
        return cls(
            name,
            frozenset(grant.rule for grant in every if not grant.labels),
            frozenset(grant for grant in every if grant.labels),
        )

    def holds(self, rule: str) -> bool:
        """Whether this principal has been given `rule` itself, for everything; nothing implies it."""
        return rule in self.rules

    def holds_somewhere(self, rule: str) -> bool:
        """Whether there may be something on which this principal may use `rule`."""
        return self.holds(rule) or any(grant.rule == rule for grant in self.narrowed)

    def holds_on(self, rule: str, labels: Collection[str]) -> bool:
        """Whether this principal may use `rule` on what carries these labels."""
        return self.holds(rule) or any(
            grant.rule == rule and grant.labels <= frozenset(labels) for grant in self.narrowed
        )

    def reach(self, rule: str) -> tuple[frozenset[str], ...] | None:
        """On what this principal may use `rule`: what carries all labels of one of these; None for everything."""
        if self.holds(rule):
            return None
        return tuple(grant.labels for grant in self.narrowed if grant.rule == rule)

    def may_grant(self, grant: Grant) -> bool:
        """Whether this principal holds at least as much, and so may hand it on."""
        return self.holds(grant.rule) or any(own.covers(grant) for own in self.narrowed)

    def lacks_of(self, other: Principal) -> tuple[str, ...]:
        """What the other one holds and this one may not hand on."""
        grants = {*map(Grant, other.rules), *other.narrowed}
        return tuple(sorted(str(grant) for grant in grants if not self.may_grant(grant)))
