"""Automations as documents declare them: `spec` is the definition without its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ringfence import PluginContext
from ringfence.declaring import NotAllowedHereError, ObjectKind, Stored, Work
from ringfence.documents.reading import Document, Finding, Node, NotReadableError
from ringfence.web import Problem

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.definitions.automations import KIND, Automations, UnreadableAutomationError
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.permissions import NotAllowedError
from ringfence_automations.definitions.reading.accepting import Accepted, accept_document
from ringfence_automations.definitions.reading.schema import schema_of
from ringfence_automations.definitions.reading.written import as_written
from ringfence_automations.definitions.wiring import Definitions


class AutomationKind(ObjectKind[Definition]):
    """Automations."""

    kind: ClassVar[str] = KIND
    what: ClassVar[str] = "What is done when something happens"
    spec = Definition
    order: ClassVar[int] = 80

    def __init__(self, context: PluginContext, rules: AccessRules, definitions: Definitions) -> None:
        super().__init__(context, read_rule=rules.read, write_rule=rules.manage)
        self._definitions = definitions

    def schema(self) -> dict[str, Any]:
        """See `ObjectKind`."""
        schema = schema_of(self._definitions.kinds)
        del schema["properties"]["name"]
        schema["required"] = [one for one in schema["required"] if one != "name"]
        return schema

    def check(self, name: str, spec: Document) -> Accepted:
        """See `ObjectKind`."""
        if not isinstance(spec.value, dict):
            raise NotReadableError([Finding(*spec.place(()), "spec", "this must be a map")])
        if "name" in spec.value:
            place = spec.place(("name",), at_key=True)
            raise NotReadableError([Finding(*place, "spec.name", "the name is in metadata")])
        root = spec.root
        whole = Node({**spec.value, "name": name}, root.line, root.column, dict(root.children))
        return accept_document(Document(whole), self._definitions.schemas, self._definitions.kinds)

    async def names(self, work: Work) -> Sequence[str]:
        """See `ObjectKind`."""
        return [one.name for one in await self._definitions.automations.all(work.session)]

    async def read(self, work: Work, name: str) -> Stored | None:
        """See `ObjectKind`."""
        try:
            found = await self._definitions.automations.one(work.session, name)
        except UnreadableAutomationError as error:
            raise Problem(409, detail=str(error)) from error
        if found is None:
            return None
        spec = as_written(found.definition)
        del spec["name"]
        return Stored(spec, state=found.token)

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """See `ObjectKind`."""
        applying = self._definitions.applying.joined(work.joined(self.context))
        try:
            # Whoever follows documents by itself has looked at nothing: only what says something new resumes it.
            [applied] = await applying.apply(
                [spec], work.by, reason=work.reason, resumes=not work.is_repeated
            )
        except NotAllowedError as error:
            raise NotAllowedHereError(error.findings) from error
        warnings = [str(one) for one in applied.warnings]
        if (paused := applied.written.automation.paused) is not None:
            warnings.append(f"the host has {paused}; to resume it: ringfence automation enable {name}")
        return warnings

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """See `ObjectKind`."""
        automations = Automations(work.joined(self.context))
        await automations.turn(work.session)
        await automations.delete(work.session, name, by=work.by.name, reason=work.reason)
