"""The sets of scripts that say in their own text what they import: checked against what is allowed, and shared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from ringfence import PluginContext
from ringfence.declaring import Work
from ringfence.scripts import ScriptKind, ScriptRequest
from ringfence.scripts.choosing.choice import NotRunnable, choose
from ringfence.scripts.packages.lock import Ecosystem, Requirement

from ringfence_script_packages.packages.allowlist import Allowlist
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.inline_metadata import InlineMetadata, InlineMetadataError, read
from ringfence_script_packages.packages.needed import pythons_for
from ringfence_script_packages.packages.own_platform import OwnPlatform
from ringfence_script_packages.packages.platforms import Platforms
from ringfence_script_packages.packages.requirements import ordered
from ringfence_script_packages.packages.sets import INLINE, NoSetError, Sets


@dataclass(frozen=True, slots=True)
class _Own:
    """The set that a script asks for: its name, and what it is made of."""

    name: str
    requirements: tuple[Requirement, ...]
    requires_python: str | None


class SetsOfScripts:
    """Implements `ScriptSets`."""

    def __init__(
        self,
        context: PluginContext,
        allowlist: Allowlist,
        sets: Sets,
        platforms: Platforms,
        own_platform: OwnPlatform,
    ) -> None:
        self._context = context
        self._allowlist = allowlist
        self._sets = sets
        self._platforms = platforms
        self._own_platform = own_platform

    def joined(self, work: Work) -> SetsOfScripts:
        """See `ScriptSets`."""
        context = work.joined(self._context)
        return SetsOfScripts(context, Allowlist(context), Sets(context), self._platforms, self._own_platform)

    async def of(
        self, script: ScriptRequest | None, *, named: str | None = None, by: str | None = None
    ) -> str | None:
        """See `ScriptSets`. All scripts that ask for the same have one set."""
        own = None if script is None else await self._own(script)
        if own is not None and named is not None:
            raise PackagesError(
                Why.CONFLICT,
                f"the script says itself what it imports, and the set {named} is named as well",
                hint="Leave out one of them.",
            )
        if named is not None and not await self._has(named):
            raise PackagesError(
                Why.NOT_FOUND,
                f"there is no set of packages {named!r}",
                hint=f"Make it: ringfence packages allow NAME --set {named}",
            )
        if own is None:
            return named
        if by is not None:
            await self._sets.make(own.name, own.requirements, requires_python=own.requires_python, by=by)
        elif not await self._has(own.name):
            raise PackagesError(
                Why.NOT_FOUND,
                "what the script says that it imports is allowed, but was never installed",
                hint="Install it: ringfence packages install --script FILE. A check installs it when it is saved.",
            )
        return own.name

    async def _own(self, script: ScriptRequest) -> _Own | None:
        """What a script says of itself, within what is allowed; None if it says nothing. Raises `PackagesError`."""
        told = _told(script)
        if told is None:
            return None
        if told.requires_python is not None:
            await self._own_platform.note()
            pythons_for(told.requires_python, await self._platforms.known())
        if not told.dependencies:
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
        texts = [one.text for one in wanted]
        if told.requires_python is not None:
            texts.append(f"requires-python {told.requires_python}")
        digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
        return _Own(INLINE + digest[:32], wanted, told.requires_python)

    async def _has(self, name: str) -> bool:
        try:
            await self._sets.get(name)
        except NoSetError:
            return False
        return True


def _told(script: ScriptRequest) -> InlineMetadata | None:
    """What a script in Python says in its own text."""
    try:
        if choose(script).kind is not ScriptKind.PYTHON:
            return None
        return read(script.source.decode())
    except (NotRunnable, UnicodeDecodeError):
        return None
    except InlineMetadataError as error:
        raise PackagesError(Why.FAILED, str(error), hint="See PEP 723.") from error
