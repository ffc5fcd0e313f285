"""The pages of sets: their states, what their locks hold, what has changed, and which satellites have them."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ringfence import AccessRule
from ringfence.declaring import Held
from ringfence.pages import Again, Redirect, View
from ringfence.scripts.packages.lock import Lock
from ringfence.web import DEFAULT_LISTED, Problem, page

from ringfence_script_packages.packages.auditing import Audits
from ringfence_script_packages.packages.contents import Contents
from ringfence_script_packages.packages.differences import differences
from ringfence_script_packages.packages.ports import HeldSet, PackageHolder
from ringfence_script_packages.packages.sets import NoSetError, PackageSet, Sets, State
from ringfence_script_packages.packages.users import Users
from ringfence_script_packages.pages.packages.words import KINDS, doing, failure, named, size

KEPT_LOCKS = 8
MOST_DIFFERENCES = 200
MOST_LACKING = 50
MOST_REASON = 1000


class SetPages:
    """What pages show of sets, and what their forms do."""

    def __init__(
        self,
        sets: Sets,
        contents: Contents,
        audits: Audits,
        users: Users,
        holders: Callable[[], Sequence[PackageHolder]],
        manage: AccessRule,
    ) -> None:
        self._sets = sets
        self._contents = contents
        self._audits = audits
        self._users = users
        self._holders = holders
        self._manage = manage
        self._locks: OrderedDict[str, Lock] = OrderedDict()

    async def held(self, view: View) -> Held | None:
        """Whether what is allowed in the set is changed elsewhere alone."""
        return await self._sets.held(view.parameters["name"])

    async def held_among(self, names: Iterable[str]) -> Mapping[str, Held]:
        """Those of some sets that are so."""
        return await self._sets.held_among(names)

    async def listed(self, view: View) -> Mapping[str, Any]:
        """All sets, also those that scripts ask for in their own text."""
        words = view.query.get("q", "").strip().lower()[:64] or None
        found = await self.outlines(view, after=view.after or "", words=words, limit=DEFAULT_LISTED + 1)
        shown = page(found, DEFAULT_LISTED, lambda one: str(one["name"]))
        return {"sets": list(shown.entries), "next": shown.next, "words": words}

    async def outlines(
        self, view: View, *, after: str = "", own: bool = False, words: str | None = None, limit: int
    ) -> list[dict[str, Any]]:
        """Sets, each in a line."""
        found = await self._sets.page(after=after, own=own, words=words, limit=limit)
        findings, audited = await self._audits.counts(), await self._audits.audited()
        current = {one.name: one.lock_hash for one in found if one.lock_hash is not None}
        held = await held_counts(self._holders(), current, view)
        return [
            {
                "name": one.name,
                "state": one.state.value,
                "kind": KINDS[one.state],
                "doing": doing(one) if one.state is State.INSTALLING else None,
                "error": None if one.error is None else failure(one.error),
                "lock": one.lock_hash,
                "locked_at": one.locked_at,
                "findings": findings.get(one.name, 0),
                "audited": one.lock_hash is not None and audited.get(one.name) == one.lock_hash,
                "ready": held[one.name]["ready"],
                "machines": held[one.name].total(),
                "moving": one.state is State.INSTALLING or _are_syncing(held[one.name]),
            }
            for one in found
        ]

    async def show(self, view: View) -> Mapping[str, Any]:
        """One set."""
        found = await self._one(view)
        contents = await self._contents.of(found, view.principal)
        lock = await self._lock(found.lock_hash)
        previous = await self._lock(found.previous_lock_hash)
        words = view.query.get("q", "").strip().lower()[:200]
        locked = [one for one in _locked(lock) if words in one["name"]]
        rest = [one for one in locked if view.after is None or one["key"] > view.after]
        shown = page(rest[: DEFAULT_LISTED + 1], DEFAULT_LISTED, lambda one: str(one["key"]))
        audits = await self._audits.report(found.name)
        held = contents["held"] or {"counts": {}, "lacking": []}
        may_manage = view.may(self._manage)
        return {
            "named": found.name,
            "set": found,
            "kind": KINDS[found.state],
            "doing": doing(found) if found.state is State.INSTALLING else None,
            "error": None if found.error is None else failure(found.error),
            "size": size(contents["bytes"]),
            "limit": size(contents["limitBytes"]),
            "is_large": contents["isLarge"],
            "packages": shown.entries,
            "count": len(locked),
            "next": shown.next,
            "words": words,
            "differences": None
            if lock is None or previous is None
            else differences(previous, lock)[:MOST_DIFFERENCES],
            "platforms": [_platform(one) for one in contents["platforms"]],
            "ready": held["counts"].get("ready", 0),
            "machines": sum(held["counts"].values()),
            "offline": held["counts"].get("offline", 0),
            "moving": found.state is State.INSTALLING or _are_syncing(held["counts"]),
            "lacking": [
                {**one, "has": f"{size(one['storedBytes'])} of {size(one['bytes'])}"}
                for one in held["lacking"][:MOST_LACKING]
            ],
            "audit": audits[0] if audits else None,
            "may_manage": may_manage,
            "users": named(await self._users.of(found.name)),
            "loses": await self._loses(found) if may_manage else "",
        }

    async def install(self, view: View) -> Redirect | Again:
        """Have a set installed, with newer versions if those are wanted."""
        name = view.parameters["name"]
        reason = view.form.get("reason", "").strip()[:MOST_REASON] or None
        try:
            await self._sets.request(
                name, upgrade=view.form.get("upgrade") == "yes", by=view.principal.name, reason=reason
            )
        except NoSetError:
            raise _unknown(name) from None
        return Redirect(
            f"/packages/sets/{name}",
            f"You asked to install the set {name}. Until that is complete, scripts use the packages from before.",
        )

    async def delete(self, view: View) -> Redirect | Again:
        """Forget a set and what is allowed in it."""
        name = view.parameters["name"]
        if not await self._sets.delete(name, by=view.principal.name):
            raise _unknown(name)
        return Redirect("/packages", f"The set {name} is deleted.")

    async def of_machine(self, view: View) -> Mapping[str, Any] | None:
        """How far one satellite is with its sets; nothing for one that has none."""
        current = await self._sets.current()
        for holder in self._holders():
            found = await holder.on(view.parameters.get("id", ""), current, view.principal)
            if found:
                moving = _are_syncing(Counter(one.state for one in found))
                return {"sets": [_held(one) for one in found], "moving": moving}
        return None

    async def _one(self, view: View) -> PackageSet:
        name = view.parameters["name"]
        try:
            return await self._sets.get(name)
        except NoSetError:
            raise _unknown(name) from None

    async def _lock(self, hash: str | None) -> Lock | None:
        """A lock, which never changes: those that were shown lately are kept."""
        if hash is None:
            return None
        if (lock := self._locks.get(hash)) is None and (lock := await self._sets.lock(hash)) is not None:
            self._locks[hash] = lock
            while len(self._locks) > KEPT_LOCKS:
                self._locks.popitem(last=False)
        return lock

    async def _loses(self, found: PackageSet) -> str:
        users = await self._users.of(found.name)
        allowed = "its list of allowed packages is deleted, and runs that name it are refused from then on"
        if not users:
            return f"The set {found.name} is deleted: {allowed}. No check names it."
        return f"The set {found.name} is deleted: {allowed}. These name it: {named(users)}."


async def held_counts(
    holders: Sequence[PackageHolder], current: Mapping[str, str], view: View
) -> Mapping[str, Counter[str]]:
    """How many machines are in each state with each set, of those that the viewer may see."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for holder in holders:
        for name, counts in (await holder.counts(current, view.principal)).items():
            found[name].update(counts)
    return found


def _are_syncing(counts: Mapping[str, int]) -> bool:
    """Whether some machines get a set at this moment: those that cannot be reached, or have failed, do not."""
    return any(count for state, count in counts.items() if state not in {"ready", "failed", "offline"})


def _unknown(name: str) -> Problem:
    return Problem(404, "No such set", detail=f"There is no set of packages {name}.")


def _locked(lock: Lock | None) -> list[dict[str, Any]]:
    """The packages of a lock, each with its files, by name."""
    if lock is None:
        return []
    found = [("pypi", one.name, one.version, one.files, "") for one in lock.python]
    found += [("npm", one.name, one.version, (one.file,), one.path) for one in lock.node]
    return [
        {
            "key": f"{name} {ecosystem} {version} {path}",
            "ecosystem": ecosystem,
            "name": name,
            "version": version,
            "size": size(max(file.size for file in files)),
            "files": files[:50],
            "more": max(0, len(files) - 50),
        }
        for ecosystem, name, version, files, path in sorted(found, key=lambda one: (one[1], *one[:3], one[4]))
    ]


def _platform(one: Mapping[str, Any]) -> dict[str, Any]:
    parts = [
        f"{label} {part['version']} ({part['machine']}, {part['libc']})"
        for label, part in (("Python", one.get("python")), ("Node.js", one.get("node")))
        if part
    ]
    return {
        "words": ", ".join(parts) or "no interpreter",
        "problem": one["problem"],
        "is_stored": one["storedBytes"] == one["bytes"],
        "stored": f"{size(one['storedBytes'])} of {size(one['bytes'])}",
    }


def _held(one: HeldSet) -> dict[str, Any]:
    kinds = {"ready": "good", "failed": "bad", "offline": "off"}
    return {
        "name": one.name,
        "state": one.state,
        "kind": kinds.get(one.state, "warn"),
        "lock": one.lock,
        "has": f"{size(one.have)} of {size(one.wanted)}",
        "have": one.have,
        "wanted": one.wanted,
        "error": one.error,
        "at": one.at,
    }
