"""Writes what there is as documents that `apply` takes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ringfence.access import Principal
from ringfence.declaring import ownership
from ringfence.declaring.kind import Kinds, ObjectKind, Stored, Work
from ringfence.declaring.reading import API_VERSION
from ringfence.documents.writing import as_yaml
from ringfence.http.problems import Problem
from ringfence.plugins.ports import Transactions
from ringfence.spans import span_of


class Export:
    """Exports objects."""

    def __init__(self, database: Transactions, kinds: Kinds) -> None:
        self._database = database
        self._kinds = kinds

    async def documents(
        self, wanted: Collection[str], by: Principal
    ) -> list[tuple[dict[str, Any], list[str]]]:
        """The documents of these kinds, each with notes; without kinds, of all that whoever asks may see.

        Raises `Problem`.
        """
        kinds = self._kinds()
        for name in wanted:
            if name not in kinds:
                raise Problem(404, "No such kind", detail=f"there is no kind {name}")
            if not by.holds_somewhere(rule := kinds[name].read_rule.name):
                raise Problem(403, detail=f"{by.name} does not hold the access rule {rule}", rule=rule)
        chosen = [
            one
            for name, one in kinds.items()
            if (name in wanted if wanted else by.holds_somewhere(one.read_rule.name))
        ]
        found = []
        async with self._database.sessions() as session:
            owned = await ownership.owned(session)
            known = {key: one.object_id for key, one in owned.items() if one.object_id is not None}
            work = Work(session, await session.connection(), by, reason=None, kinds=kinds, known=known)
            for kind in sorted(chosen, key=lambda one: one.order):
                for name in await kind.names(work):
                    if (stored := await kind.read(work, name)) is not None and kind.shows(by, stored):
                        found.append((document(kind, name, stored), list(stored.notes)))
        return found


def document(kind: ObjectKind[Any], name: str, stored: Stored) -> dict[str, Any]:
    """An object as a document."""
    spec = dict(stored.spec)
    for path in kind.durations:
        _in_words(spec, path)
    labels = {"labels": dict(stored.labels)} if stored.labels else {}
    return {
        "apiVersion": API_VERSION,
        "kind": kind.kind,
        "metadata": {"name": name, **labels},
        "spec": spec,
    }


def as_text(found: Collection[tuple[dict[str, Any], list[str]]]) -> str:
    """The documents as one text."""
    return "".join(
        f"---\n{''.join(f'# {note}{chr(10)}' for note in notes)}{as_yaml(one)}" for one, notes in found
    )


def _in_words(spec: dict[str, Any], path: tuple[str, ...]) -> None:
    """Write a number of seconds as a span of time, where that says the same."""
    for part in path[:-1]:
        if not isinstance(spec.get(part), dict):
            return
        spec[part] = dict(spec[part])
        spec = spec[part]
    seconds = spec.get(path[-1])
    if isinstance(seconds, int | float) and seconds > 0 and round(seconds * 1000) == seconds * 1000:
        spec[path[-1]] = span_of(seconds)
