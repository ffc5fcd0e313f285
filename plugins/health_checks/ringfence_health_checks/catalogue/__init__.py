"""The catalogue: ready checks, each an ordinary script with a header that says what it does and what can be set. Pure.

A header is the comment at the beginning of a script. Its first paragraph says what the script does, and each line
`setting NAME = DEFAULT: what it is`, or without a default where there must be a value, says what it takes. A script
finds a setting in the variable `CHECK_NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

_SETTING = re.compile(r"setting ([a-z][a-z0-9_]*)(?: = (.*?))?: (.+)")


@dataclass(frozen=True, slots=True)
class Setting:
    """What can be set of a ready check; without a default, it must be."""

    name: str
    default: str | None
    text: str

    @property
    def variable(self) -> str:
        """The variable in which the script finds it."""
        return f"CHECK_{self.name.upper()}"


@dataclass(frozen=True, slots=True)
class Ready:
    """A ready check."""

    name: str
    summary: str
    settings: tuple[Setting, ...]
    source: str
    more: str = ""
    """What else there is to know: what it needs of the policy."""

    @property
    def file_name(self) -> str:
        """What its file is called."""
        return f"{self.name}.py"

    def variables(self, given: Mapping[str, str], otherwise: Sequence[str] = ()) -> dict[str, str]:
        """The variables for settings that are given; those in `otherwise` are set in another way.

        Raises:
            ValueError: for a setting that there is not, or that is missing.
        """
        known = {one.name: one for one in self.settings}
        for name in given:
            if name not in known:
                raise ValueError(f"{self.name} has no setting {name!r}; it has: {', '.join(known)}")
        missing = [
            one.name
            for one in self.settings
            if one.default is None and one.name not in given and one.variable not in otherwise
        ]
        if missing:
            raise ValueError(f"{self.name} needs: {', '.join(f'--set {name}=…' for name in missing)}")
        return {known[name].variable: value for name, value in given.items()}


def ready(name: str) -> Ready:
    """The ready check of that name. Raises KeyError if there is none."""
    if name not in names():
        raise KeyError(name)
    path = files(__package__) / "scripts" / f"{name.replace('-', '_')}.py"
    return read(name, path.read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    """The names of all that there are."""
    found = (one.name for one in (files(__package__) / "scripts").iterdir())
    return tuple(sorted(name.removesuffix(".py").replace("_", "-") for name in found if name.endswith(".py")))


def read(name: str, source: str) -> Ready:
    """A ready check from its script."""
    lines = []
    for line in source.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    settings = [Setting(*found.groups()) for line in lines if (found := _SETTING.fullmatch(line))]
    text = [line for line in lines if not _SETTING.fullmatch(line)]
    end = text.index("") if "" in text else len(text)
    more = " ".join(line for line in text[end:] if line)
    return Ready(name, " ".join(text[:end]), tuple(settings), source, more)
