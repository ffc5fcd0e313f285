"""The sets of packages of checks: the one that a check names, or that its script asks for in its own text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from ringfence import PluginContext
from ringfence.scripts import ScriptRequest, Task
from ringfence_script_packages.service import ScriptSets
from sqlalchemy import text

INLINE = "inline-"
"""How the names of sets begin that scripts ask for in their own text."""

_USED = text("""
    SELECT DISTINCT definition->>'packages' AS name FROM health_checks_checks WHERE definition->>'packages' IS NOT NULL
""")
_USING = text("SELECT name FROM health_checks_checks WHERE definition->>'packages' = :set ORDER BY name")
_Task = TypeVar("_Task", bound=Task)


class PackageSets:
    """Finds the sets of checks. Implements `PackageUser`."""

    def __init__(self, context: PluginContext, script_sets: Callable[[], ScriptSets] | None = None) -> None:
        self._context = context
        self._script_sets = script_sets or (lambda: context.services.get(ScriptSets))

    async def sets(self) -> Collection[str]:
        """See `PackageUser`."""
        async with self._context.sessions() as session:
            return frozenset((await session.execute(_USED)).scalars())

    async def using(self, set: str) -> Sequence[str]:
        """See `PackageUser`."""
        async with self._context.sessions() as session:
            return [f"check {name}" for name in (await session.execute(_USING, {"set": set})).scalars()]

    async def with_set(self, task: _Task, *, by: str | None) -> _Task:
        """The task with the set of its own text, if it has one: made on behalf of `by`, or there already.

        Raises `PackagesError`.
        """
        named = task.packages
        if named is not None and named.startswith(INLINE):
            named = None  # from what its text said before
        script = None
        if task.script is not None:
            script = ScriptRequest(task.kind, task.script, name=task.file_name)
        found = await self._script_sets().of(script, named=named, by=by)
        return task.model_copy(update={"packages": found})
