"""The files of the commits that were applied last, in memory: what has not changed is not fetched again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from ringfence_gitops.remotes.commit import Commit

MOST_CHARACTERS = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checkout:
    """A commit, who has signed it, and the files that are applied."""

    commit: Commit
    signer: str | None
    files: Mapping[str, str]

    @property
    def characters(self) -> int:
        """How much it holds."""
        return sum(map(len, self.files.values()))


class Kept:
    """Keeps one for each source, up to a bound for all of them: those that were not asked for longest go first."""

    def __init__(self, most: int = MOST_CHARACTERS) -> None:
        self._most = most
        self._kept: OrderedDict[UUID, tuple[int, Checkout]] = OrderedDict()

    def get(self, source: UUID, revision: int, commit: str) -> Checkout | None:
        """What is known of a commit, for the source as it is at a revision."""
        found = self._kept.get(source)
        if found is None or found[0] != revision or found[1].commit.id != commit:
            return None
        self._kept.move_to_end(source)
        return found[1]

    def keep(self, source: UUID, revision: int, checkout: Checkout) -> None:
        """Keep one in the place of the one before."""
        self._kept.pop(source, None)
        if checkout.characters > self._most:
            return
        self._kept[source] = (revision, checkout)
        while sum(one.characters for _, one in self._kept.values()) > self._most:
            self._kept.popitem(last=False)
