"""Values that are looked up many times, and take long to hash: each reckons that once."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def hashed_once(kind: type[T]) -> type[T]:
    """A frozen dataclass, without slots, whose values keep their hash.

    A plan, or what is known of a machine, has a hundred values in it, and every run asks some caches for such a one.
    """
    reckoned = kind.__hash__

    def kept(self: T) -> int:
        values = self.__dict__
        if (known := values.get("_hash")) is None:
            known = values["_hash"] = reckoned(self)
        return known

    kind.__hash__ = kept  # type: ignore[method-assign, assignment]
    return kind
