"""Whether two values are equal, as the language has it: by what they are, whatever kind of number has it. Pure."""

from __future__ import annotations

from ringfence.expressions.computing.budget import Budget
from ringfence.expressions.computing.values import LIST, MAP, NUMBERS, TruthKey, Value, kind_of


def are_equal(left: Value, right: Value, budget: Budget) -> bool:
    """Whether they are equal. Values of different kinds are not, except numbers.

    Raises:
        ValueError: if one is no value.
    """
    budget.spend(1)
    kind, other = kind_of(left), kind_of(right)
    if kind in NUMBERS and other in NUMBERS:
        return bool(left == right)
    if kind != other:
        return False
    match kind:
        case "list":
            return len(left) == len(right) and all(
                are_equal(one, another, budget) for one, another in zip(left, right, strict=True)
            )
        case "map":
            return len(left) == len(right) and all(
                key in right and are_equal(value, right[key], budget) for key, value in left.items()
            )
        case "string" | "bytes":
            if len(left) != len(right):
                return False
            budget.spend_text(len(left))
            return bool(left == right)
        case _:
            return bool(left == right)


def contains(whole: Value, item: Value, budget: Budget) -> bool:
    """Whether a list has an element that equals `item`, or a map has it as a key. Raises `ValueError`."""
    kind = kind_of(whole)
    if kind == LIST:
        return any(are_equal(item, one, budget) for one in whole)
    if kind != MAP:
        raise ValueError(f"in needs a list or a map, and not {kind}")
    budget.spend(1)
    if isinstance(item, bool):
        return TruthKey(item) in whole
    return isinstance(item, str | int | float) and item in whole
