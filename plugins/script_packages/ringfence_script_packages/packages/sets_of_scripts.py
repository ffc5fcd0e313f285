"""The sets of scripts that say in their own text what they import: checked against what is allowed, and shared."""

from __future__ import annotations

import hashlib
import json

from ringfence.scripts.packages.lock import Ecosystem

from ringfence_script_packages.packages.allowlist import Allowlist
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.inline_metadata import InlineMetadataError, read
from ringfence_script_packages.packages.requirements import ordered
from ringfence_script_packages.packages.sets import INLINE, NoSetError, Sets


class SetsOfScripts:
    """Implements `ScriptSets`."""

    def __init__(self, allowlist: Allowlist, sets: Sets) -> None:
        self._allowlist = allowlist
        self._sets = sets

    async def for_script(self, source: str, *, by: str) -> str | None:
        """See `ScriptSets`. All scripts that ask for the same have one set."""
        try:
            told = read(source)
        except InlineMetadataError as error:
            raise PackagesError(Why.FAILED, str(error), hint="See PEP 723.") from error
        if told is None or not told.dependencies:
            return None
        names = [one.name for one in told.dependencies]
        allowed = await self._allowlist.named(Ecosystem.PYPI, names)
        for name in names:
            if name not in allowed:
                raise PackagesError(
                    Why.NOT_ALLOWED,
                    "it is not in the allowlist",
                    package=name,
                    hint=f"Whoever may manage packages can allow it: ringfence packages allow {name}",
                )
        wanted = ordered(one.within(allowed[one.name].wanted).requirement for one in told.dependencies)
        texts = json.dumps([one.text for one in wanted])
        name = INLINE + hashlib.sha256(texts.encode()).hexdigest()[:32]
        await self._sets.make(name, wanted, by=by)
        return name

    async def has_set(self, name: str) -> bool:
        """See `ScriptSets`."""
        try:
            await self._sets.get(name)
        except NoSetError:
            return False
        return True
