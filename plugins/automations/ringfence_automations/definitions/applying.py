"""Applying definitions: a text of one or several is read, checked, and made to be so; all of them, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringfence import PluginContext
from ringfence.documents.reading import Finding, NotReadableError
from ringfence.web import Principal

from ringfence_automations.definitions.automations import Automations, Written
from ringfence_automations.definitions.permissions import Permissions
from ringfence_automations.definitions.reading.accepting import Accepted, accept
from ringfence_automations.definitions.reading.checking import Kinds
from ringfence_automations.definitions.scopes import Schemas


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one definition."""

    written: Written
    warnings: tuple[Finding, ...]

    def to_wire(self, *, with_before: bool) -> dict[str, Any]:
        """The same as JSON; with what was there before, for whoever may see that."""
        written = self.written
        before = written.before if with_before else None
        return {
            **written.automation.to_wire(),
            "change": "unchanged" if written.change is None else written.change.value,
            "before": None if before is None else before.definition.to_wire(),
            "warnings": [one.to_wire() for one in self.warnings],
        }


class _NotWrittenError(Exception):
    """Nothing is to be written: it was only asked what would be."""


class Applying:
    """Applies definitions."""

    def __init__(
        self,
        context: PluginContext,
        automations: Automations,
        permissions: Permissions,
        schemas: Callable[[], Schemas],
        kinds: Callable[[], Kinds],
    ) -> None:
        self._context = context
        self._automations = automations
        self._permissions = permissions
        self._schemas = schemas
        self._kinds = kinds

    def joined(self, context: PluginContext) -> Applying:
        """The same by another context of this plugin, such as one within a transaction."""
        return Applying(context, Automations(context), Permissions(context), self._schemas, self._kinds)

    def accepted(self, text: str) -> list[Accepted]:
        """The definitions in a text. Raises `NotReadableError` with all that is wrong with them."""
        return accept(text, self._schemas(), self._kinds())

    async def apply(
        self,
        accepted: list[Accepted],
        by: Principal,
        *,
        reason: str | None = None,
        expected: int | None = None,
        only_tell: bool = False,
        resumes: bool = True,
    ) -> list[Applied]:
        """Have these definitions hold. With `only_tell`, nothing is written, and the answer is what would be.

        What the host has paused stays so, unless this `resumes` it.

        Raises:
            NotReadableError: for what is wrong with one as things are now, such as a secret that does not exist.
            NotAllowedError: if one does what it may not do.
            StaleAutomationError: if one is not at the revision `expected`.
        """
        permitted = [await self._permissions.permitted(one, by) for one in accepted]
        if wrong := [finding for one in permitted for finding in one.wrong]:
            raise NotReadableError(wrong)
        applied: list[Applied] = []
        try:
            async with self._context.sessions.begin() as session:
                await self._automations.turn(session)
                for one, allowed in zip(accepted, permitted, strict=True):
                    written = await self._automations.write(
                        session,
                        one.definition,
                        allowed.holder,
                        by=by.name,
                        reason=reason,
                        expected=expected,
                        resumes=resumes,
                    )
                    applied.append(Applied(written, tuple(allowed.warnings)))
                if only_tell:
                    raise _NotWrittenError
        except _NotWrittenError:
            pass
        return applied
