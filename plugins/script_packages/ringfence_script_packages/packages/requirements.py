"""What somebody asks for: a package's name and a range of versions, of PyPI or of npm. Pure.

Threat: a requirement may name far more than a package of the registry: an address, a directory, a repository, another
package by an alias; and it becomes an argument of a resolver, or a line of its input. Mechanism: a name and versions is
all that there may be, and what is passed on is written anew from the parts. Not covered: whether a name is the one that
was meant; whoever allows it looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PythonRequirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ringfence.scripts.packages.lock import Ecosystem, Requirement

MAX_TEXT = 500
_NPM = re.compile(
    r"(?P<name>(?:@[a-z0-9][a-z0-9._-]{0,99}/)?[a-z0-9][a-z0-9._-]{0,213})"
    r"(?:@?(?P<range>[^@/:]*))",
    re.ASCII,
)
_NUMBER = r"(?:0|[1-9][0-9]{0,15}|[xX*])"
_VERSION = rf"v?{_NUMBER}(?:\.{_NUMBER}){{0,2}}(?:-[0-9A-Za-z.-]{{1,100}})?(?:\+[0-9A-Za-z.-]{{1,100}})?"
_COMPARATOR = re.compile(rf"(?:[<>]=?|=|~|\^)?{_VERSION}", re.ASCII)
_HYPHEN = re.compile(rf"({_VERSION}) +- +({_VERSION})", re.ASCII)


class RequirementError(ValueError):
    """What was written is no requirement that can be met; the message says what is wrong."""


class NamedTwiceError(RequirementError):
    """One package is named twice."""

    def __init__(self) -> None:
        super().__init__("name each package once, with all it needs")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package that is asked for: its name in normal form, perhaps extras, and a range of versions, or none.

    `marker` says on which platforms of Python it is wanted.
    """

    ecosystem: Ecosystem
    name: str
    specifier: str = ""
    extras: tuple[str, ...] = field(default=())
    marker: str | None = None

    @classmethod
    def parse(cls, ecosystem: Ecosystem, text: str) -> Wanted:
        """Read `requests>=2`, `psycopg[binary]`, `zod@^3`, `@scope/name@>=1.2`. Raises `RequirementError`."""
        text = text.strip()
        if len(text) > MAX_TEXT:
            raise RequirementError(f"a requirement has at most {MAX_TEXT} characters")
        return _npm(text) if ecosystem is Ecosystem.NPM else _python(text)

    @property
    def text(self) -> str:
        """The requirement as resolvers read it."""
        if self.ecosystem is Ecosystem.NPM:
            return f"{self.name}@{self.specifier}" if self.specifier else self.name
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        marker = f"; {self.marker}" if self.marker else ""
        return f"{self.name}{extras}{self.specifier}{marker}"

    @property
    def requirement(self) -> Requirement:
        """The same as locks and resolvers have it."""
        return Requirement(ecosystem=self.ecosystem, text=self.text)

    def within(self, allowed: Wanted) -> Wanted:
        """The same, of the versions that both allow."""
        both = SpecifierSet(self.specifier) & SpecifierSet(allowed.specifier)
        return Wanted(
            self.ecosystem,
            self.name,
            _ordered(both),
            tuple(sorted({*self.extras, *allowed.extras})),
            self.marker,
        )


def allowable(ecosystem: Ecosystem, texts: Iterable[str]) -> list[Wanted]:
    """What somebody allows: each package once, everywhere. Raises `RequirementError`, and `NamedTwiceError`."""
    wanted = [everywhere(ecosystem, text) for text in texts]
    if len({one.name for one in wanted}) != len(wanted):
        raise NamedTwiceError
    return wanted


def everywhere(ecosystem: Ecosystem, text: str) -> Wanted:
    """A package that is allowed on every platform. Raises `RequirementError`."""
    wanted = Wanted.parse(ecosystem, text)
    if wanted.marker is not None:
        raise RequirementError(f"{text!r} has a marker: it is allowed everywhere or nowhere")
    return wanted


def ordered(wanted: Iterable[Requirement]) -> tuple[Requirement, ...]:
    """Requirements in the order in which they can be compared."""
    return tuple(sorted(set(wanted), key=lambda each: (each.ecosystem, each.text)))


def _python(text: str) -> Wanted:
    try:
        read = PythonRequirement(text)
    except InvalidRequirement as error:
        raise RequirementError(f"{text!r} is not a requirement such as requests or 'requests>=2'") from error
    if read.url is not None:
        raise RequirementError(f"{text!r} names an address: packages come from the registry alone")
    if any(each.operator == "===" for each in read.specifier):
        raise RequirementError(f"{text!r} compares with ===, which is for what is no version: use ==")
    extras = tuple(sorted({str(canonicalize_name(extra)) for extra in read.extras}))
    marker = None if read.marker is None else str(read.marker)
    return Wanted(Ecosystem.PYPI, str(canonicalize_name(read.name)), _ordered(read.specifier), extras, marker)


def _npm(text: str) -> Wanted:
    found = _NPM.fullmatch(text)
    if found is None:
        raise RequirementError(f"{text!r} is not a requirement such as zod, zod@^3 or @scope/name@'>=1.2'")
    return Wanted(Ecosystem.NPM, found["name"], _npm_range(text, found["range"]))


def _npm_range(text: str, versions: str) -> str:
    """A range of npm in one spelling: comparators, `a - b`, and alternatives. No tags, which anyone can move."""
    alternatives = []
    for part in versions.split("||"):
        part = re.sub(r"([<>]=?|=|~|\^) +", r"\1", part.strip())
        hyphen = _HYPHEN.fullmatch(part)
        words = part.split()
        if hyphen is None and not all(_COMPARATOR.fullmatch(word) for word in words):
            raise RequirementError(
                f"{text!r}: {versions!r} is not a range of versions such as ^3, '>=1.2 <2' or 1.x"
            )
        alternatives.append(f"{hyphen[1]} - {hyphen[2]}" if hyphen else " ".join(words))
    if len(alternatives) > 1 and not all(alternatives):
        raise RequirementError(f"{text!r}: a version is missing beside ||")
    return " || ".join(alternatives)


def _ordered(specifiers: SpecifierSet) -> str:
    return ",".join(sorted(str(each) for each in specifiers))
