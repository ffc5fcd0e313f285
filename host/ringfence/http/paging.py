"""Lists, page by page: how much is asked for at most, where a page begins, and where the next one does.

Each list has an order by keys, and a page begins after a key. So an entry that is there all the time is listed once,
whatever is added or removed meanwhile, and a page late in a list costs as much as the first. An answer has the key of
its last entry in `next`, for `after` of the next request, or null at the end of the list.

Plugins use this for lists of their own: ask the database for `limit + 1` rows, and have `page` make the rest of it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query

from ringfence.bounded import LongText, bounded_json
from ringfence.http.problems import Problem

MAX_LISTED = 500
DEFAULT_LISTED = 100
T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=MAX_LISTED, description="how many entries to answer at most")]
After = Annotated[
    LongText | None, Query(description="`next` of the page before: only entries after that one")
]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some entries of a list, and what to ask for next; None if there are no more."""

    entries: Sequence[T]
    next: str | None


def page(found: Sequence[T], limit: int, key: Callable[[T], str]) -> Page[T]:
    """The page for what was found when `limit + 1` entries were asked for, so that an end is known to be one."""
    entries = found[:limit]
    return Page(entries, key(entries[-1]) if len(found) > limit else None)


def cursor(*key: str) -> str:
    """The text for `next` where a key has several parts."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def parts_of(after: str, parts: int) -> list[str]:
    """The key that `cursor` has made a text of. Raises `Problem` for any other text."""
    try:
        found: Any = bounded_json(json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4))))
    except (ValueError, RecursionError) as error:
        raise not_a_cursor() from error
    if not isinstance(found, list) or len(found) != parts or not all(isinstance(one, str) for one in found):
        raise not_a_cursor()
    return found


def number_of(after: str) -> int:
    """The key that is a number. Raises `Problem` for any other text."""
    if not re.fullmatch(r"[0-9]{1,18}", after):
        raise not_a_cursor()
    return int(after)


def not_a_cursor() -> Problem:
    """What is answered to an `after` that no page has said."""
    return Problem(422, "No such page", detail="after must be what `next` of the page before said")
