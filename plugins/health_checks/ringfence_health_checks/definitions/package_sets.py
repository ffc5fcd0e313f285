"""The sets of packages of checks: the one that a check names, or that its script asks for in its own text."""

from __future__ import annotations

from collections.abc import Collection

from ringfence import PluginContext
from ringfence.scripts import ScriptKind, ScriptRequest
from ringfence.scripts.choosing.choice import NotRunnable, choose
from ringfence_script_packages.service import PackagesError, ScriptSets, Why
from sqlalchemy import text

from ringfence_health_checks.definitions.definition import Definition

INLINE = "inline-"
"""How the names of sets begin that scripts ask for in their own text."""

_USED = text("""
    SELECT DISTINCT definition->>'packages' AS name FROM health_checks_checks WHERE definition->>'packages' IS NOT NULL
""")


class PackageSets:
    """Finds the sets of checks. Implements `PackageUser`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def sets(self) -> Collection[str]:
        """See `PackageUser`."""
        async with self._context.sessions() as session:
            return frozenset((await session.execute(_USED)).scalars())

    async def with_set(self, definition: Definition, *, by: str) -> Definition:
        """The definition with the set of its own text, if it has one. Raises `PackagesError`."""
        packages = self._context.services.get(ScriptSets)
        named = definition.packages
        if named is not None and named.startswith(INLINE):
            named = None  # from what its text said before
        own = await packages.for_script(definition.script or "", by=by) if _is_python(definition) else None
        if own is not None and named is not None:
            raise PackagesError(
                Why.CONFLICT,
                f"the script says itself what it imports, and the check names the set {named}",
                hint="Leave out one of them.",
            )
        if named is not None and not await packages.has_set(named):
            raise PackagesError(
                Why.NOT_FOUND,
                f"there is no set of packages {named!r}",
                hint=f"Make it: ringfence packages allow NAME --set {named}",
            )
        return definition.model_copy(update={"packages": own or named})


def _is_python(definition: Definition) -> bool:
    if definition.script is None:
        return False
    try:
        choice = choose(ScriptRequest(definition.kind, definition.script, name=definition.file_name))
    except NotRunnable:
        return False
    return choice.kind is ScriptKind.PYTHON
