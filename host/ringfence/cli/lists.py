"""The lists of a host: page by page, however long they are, and one entry by its name or id."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from ringfence.cli import output
from ringfence.cli.client import ApiError, HostClient
from ringfence.process.errors import CliError

PAGE = 500
MAX_NAMED = 20
Params = Mapping[str, str | int | Sequence[str]]


def pages(host: HostClient, path: str, params: Params | None = None) -> Iterator[dict[str, Any]]:
    """The answers that make up the list at `path`."""
    after: dict[str, str] = {}
    while True:
        answer = host.request("GET", path, params={"limit": PAGE, **(params or {}), **after})
        yield answer
        if answer.get("next") is None:
            return
        after = {"after": answer["next"]}


def every(
    host: HostClient, path: str, entries: str, params: Params | None = None
) -> Iterator[dict[str, Any]]:
    """The entries of the list at `path`, which answers have by the name `entries`."""
    for answer in pages(host, path, params):
        yield from answer[entries]


def find(host: HostClient, path: str, entries: str, name_or_id: str) -> dict[str, Any] | None:
    """The entry of that id or name; None if there is none."""
    if _is_id(name_or_id):
        try:
            found: dict[str, Any] = host.request("GET", f"{path}/{quote(name_or_id, safe='')}")
        except ApiError as error:
            if error.status != 404:
                raise
        else:
            return found
    # A host of an older release does not choose by name, and answers all of them.
    for one in every(host, path, entries, {"name": name_or_id}):
        if name_or_id in {one.get("id"), one.get("name")}:
            return one
    return None


def one(
    host: HostClient, path: str, entries: str, name_or_id: str, *, what: str, how_to_make: str
) -> dict[str, Any]:
    """The entry of that id or name.

    Raises:
        CliError: if there is none: it says so of a `what`, and names some that there are or says `how_to_make` one.
    """
    if (found := find(host, path, entries, name_or_id)) is not None:
        return found
    known = names(host, path, entries)
    raise CliError(
        f"there is no {what} {name_or_id!r}", hint=f"There are: {known}." if known else how_to_make
    )


def names(host: HostClient, path: str, entries: str) -> str:
    """The first names in a list, for a hint; empty if there are none."""
    listed = every(host, path, entries, {"limit": MAX_NAMED + 1})
    found = [output.line(one["name"]) for one in islice(listed, MAX_NAMED + 1)]
    return ", ".join(found[:MAX_NAMED]) + (" and more" if len(found) > MAX_NAMED else "")


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
