"""What operators and functions there are, and which kinds of values each takes and gives.

Both the checker and the evaluation go by this one table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from ringfence.expressions.computing.values import Value

ANY = "any"
Compute: TypeAlias = Callable[..., Value]
"""Takes the budget and the arguments. Raises `ValueError` for what cannot be computed; the message completes "x …"."""


@dataclass(frozen=True, slots=True)
class Overload:
    """One way to call a function. `gives_each` is the kind of the elements, if it gives a list of one kind."""

    takes: tuple[str, ...]
    gives: str
    compute: Compute
    gives_each: str | None = None

    def fits(self, kinds: Iterable[str]) -> bool:
        """Whether it takes values of these kinds."""
        return all(wanted in (ANY, kind) for wanted, kind in zip(self.takes, kinds, strict=True))


class Overloads:
    """A table of functions, methods (whose first argument stands before the dot) and operators."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, bool], list[Overload]] = defaultdict(list)
        self._found: dict[tuple[str, bool, tuple[str, ...]], Overload | None] = {}

    def add(
        self,
        name: str,
        takes: tuple[str, ...],
        gives: str,
        compute: Compute,
        *,
        method: bool = False,
        each: str | None = None,
    ) -> None:
        """Add one."""
        self._all[(name, method)].append(Overload(takes, gives, compute, each))

    def of(self, name: str, *, method: bool) -> list[Overload]:
        """All that have this name."""
        return self._all.get((name, method), [])

    def names(self, *, method: bool) -> frozenset[str]:
        """The names of functions, or of methods."""
        return frozenset(name for name, is_method in self._all if is_method == method and name[0].isalpha())

    def find(self, name: str, kinds: tuple[str, ...], *, method: bool = False) -> Overload | None:
        """The one that takes values of these kinds."""
        key = (name, method, kinds)
        if key not in self._found:
            fitting = (
                one
                for one in self.of(name, method=method)
                if len(one.takes) == len(kinds) and one.fits(kinds)
            )
            self._found[key] = next(fitting, None)
        return self._found[key]
