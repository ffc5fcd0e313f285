"""What of packages needs somebody's attention, their counts, and what the palette finds of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ringfence import AccessRule
from ringfence.pages import Attention, Count, Found, View

from ringfence_script_packages.packages.allowlist import Allowlist
from ringfence_script_packages.packages.auditing import Audits
from ringfence_script_packages.packages.ports import PackageHolder
from ringfence_script_packages.packages.sets import Sets
from ringfence_script_packages.pages.packages.sets import held_counts
from ringfence_script_packages.pages.packages.words import failure

MOST = 10
MOST_FOUND = 10


class Noticing:
    """Tells the overview and the palette."""

    def __init__(
        self,
        allowlist: Allowlist,
        sets: Sets,
        audits: Audits,
        holders: Callable[[], Sequence[PackageHolder]],
        read: AccessRule,
    ) -> None:
        self._allowlist = allowlist
        self._sets = sets
        self._audits = audits
        self._holders = holders
        self._read = read

    async def attention(self, view: View) -> Sequence[Attention]:
        """Installations that failed, satellites that cannot have a set, and known vulnerabilities."""
        if not view.may(self._read):
            return ()
        found = [
            Attention(
                f"The set of packages {one.name} could not be installed"
                + ("." if one.error is None else f": {failure(one.error)}"),
                f"/packages/sets/{one.name}",
                "bad",
                60,
            )
            for one in await self._sets.failed(limit=MOST)
        ]
        for name, count in list((await self._audits.counts()).items())[:MOST]:
            words = "vulnerability is" if count == 1 else "vulnerabilities are"
            found.append(
                Attention(
                    f"{count} {words} known of the set of packages {name}.",
                    f"/packages/sets/{name}#audit",
                    "warn",
                    45,
                )
            )
        held = await held_counts(self._holders(), await self._sets.current(), view)
        for name, counts in list(held.items())[:MOST]:
            behind = sum(count for state, count in counts.items() if state not in {"ready", "offline"})
            if behind:
                words = "satellite does" if behind == 1 else "satellites do"
                found.append(
                    Attention(
                        f"{behind} {words} not have the set of packages {name} yet.",
                        f"/packages/sets/{name}#satellites",
                        "bad" if counts["failed"] else "warn",
                        50 if counts["failed"] else 20,
                    )
                )
        return found

    async def counts(self, view: View) -> Sequence[Count]:
        """How many packages are allowed."""
        if not view.may(self._read):
            return ()
        return [Count("allowed packages", await self._allowlist.count(), to="/packages")]

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Packages that are allowed, and sets."""
        if not view.may(self._read):
            return ()
        wanted = words.strip().lower()
        entries = await self._allowlist.page(words=wanted, limit=MOST_FOUND)
        sets = await self._sets.page(words=wanted, limit=MOST_FOUND)
        found = [Found(one.name, f"/packages/sets/{one.name}", "set of packages") for one in sets]
        found += [
            Found(f"{one.wanted.text} in {one.set}", f"/packages/sets/{one.set}", "package")
            for one in entries
        ]
        return found[:MOST_FOUND]
