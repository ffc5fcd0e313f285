"""The extension point: a kind of objects that documents declare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, AsyncTransaction

from ringfence.access import AccessRule, Principal
from ringfence.documents.reading import Document, Finding, NotReadableError
from ringfence.expressions.near_names import near
from ringfence.plugins.joined import JoinedContext
from ringfence.refusals import in_words as words

if TYPE_CHECKING:
    from ringfence.plugins.context import PluginContext

M = TypeVar("M", bound=BaseModel)


class WrongDocumentError(ValueError):
    """A document cannot be applied as it is; the message says why. `path` is where in its `spec`."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


class NotAllowedHereError(PermissionError):
    """A document does what its author may not do; `findings` say what, and where."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is now: its `spec` and labels as a document would have them, and its id if it has one.

    `notes` are lines of comment for whoever exports it. `state` is what else an application may change, such as whom an
    automation acts for.
    """

    spec: Mapping[str, Any]
    id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    state: Any = None


class Work:
    """One `apply`, or one look at what there is: its transaction, and on whose behalf it is."""

    def __init__(
        self,
        session: AsyncSession,
        connection: AsyncConnection,
        by: Principal,
        *,
        reason: str | None,
        kinds: Mapping[str, ObjectKind[Any]],
        known: Mapping[tuple[str, str], str],
    ) -> None:
        self.session = session
        self.by = by
        self.reason = reason
        self.is_repeated = False
        """Whether the document at hand is as it was applied last, by a source that a plugin follows by itself."""
        self._connection = connection
        self._kinds = kinds
        self._known = dict(known)
        self._names = {(kind, id): name for (kind, name), id in known.items()}

    def joined(self, context: PluginContext) -> PluginContext:
        """A plugin's context of which every transaction is a part of this one."""
        return JoinedContext(context, self._connection, reason=self.reason)

    async def savepoint(self) -> AsyncTransaction:
        """What is done from here on, as something that can be taken back.

        It is the connection's: one of the session begins only once that session is asked for something.
        """
        return await self._connection.begin_nested()

    async def stored(self, kind: str, name: str) -> Stored | None:
        """The object of another kind, as it is in this transaction; None if there is none, or no such kind here."""
        found = self._kinds.get(kind)
        return None if found is None else await found.read(self, name)

    async def visible(self, kind: str, name: str) -> Stored | None:
        """The same, if whoever asks may see it."""
        stored = await self.stored(kind, name)
        return stored if stored is not None and self._kinds[kind].shows(self.by, stored) else None

    async def name_of(self, kind: str, id: str) -> str | None:
        """The name of the object of another kind that has this id, if there is one, and whoever asks may see it."""
        found = self._kinds.get(kind)
        name = None if found is None else await found.named(self, id)
        return name if name is not None and await self.visible(kind, name) is not None else None

    def declared_id(self, kind: str, name: str) -> str | None:
        """The id of the object that was declared by this name: for kinds whose objects have no name of their own."""
        return self._known.get((kind, name))

    def declared_name(self, kind: str, id: str) -> str | None:
        """The name by which the object with this id was declared."""
        return self._names.get((kind, id))

    def note(self, kind: str, name: str, id: str | None) -> None:
        """Remember the id of an object that has no name of its own."""
        if (before := self._known.pop((kind, name), None)) is not None:
            self._names.pop((kind, before), None)
        if id is not None:
            self._known[(kind, name)] = id
            self._names[(kind, id)] = name


class ObjectKind(ABC, Generic[M]):
    """A kind of documents, and what is done with the objects that they declare.

    `order`: documents with lower numbers are applied earlier, and removed later. `durations` are the paths of numbers
    of seconds in `spec`, for which `30s` may be written. All methods but `check` may raise what routes raise
    (`Problem`), and `WrongDocumentError`.
    """

    kind: ClassVar[str]
    what: ClassVar[str]
    """What it is, in a sentence: for the schema."""
    spec: type[M]
    order: ClassVar[int]
    durations: ClassVar[Collection[tuple[str, ...]]] = ()
    has_labels: ClassVar[bool] = False

    def __init__(self, context: PluginContext, *, read_rule: AccessRule, write_rule: AccessRule) -> None:
        self.context = context
        self.read_rule = read_rule
        self.write_rule = write_rule

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of `spec`."""
        return self.spec.model_json_schema(by_alias=True)

    def check(self, name: str, spec: Document) -> Any:
        """What `write` is given: `spec` as its model. Raises `NotReadableError` with all that is wrong, and where."""
        del name
        return checked(self.spec, spec)

    def shows(self, by: Principal, stored: Stored) -> bool:
        """Whether somebody may see the object."""
        del stored
        return by.holds(self.read_rule.name)

    async def named(self, work: Work, id: str) -> str | None:
        """The name of the object with this id: for kinds that others refer to by ids."""
        del work, id
        return None

    @abstractmethod
    async def names(self, work: Work) -> Sequence[str]:
        """The names of all objects that whoever asks may see."""

    @abstractmethod
    async def read(self, work: Work, name: str) -> Stored | None:
        """The object of this name."""

    @abstractmethod
    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """Make the object be so. Answers what may be wrong all the same, in words."""

    @abstractmethod
    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """Remove the object."""


def checked(model: type[M], document: Document) -> M:
    """What a document says, as a model. Raises `NotReadableError`."""
    if not isinstance(document.value, dict):
        raise NotReadableError([Finding(*document.place(()), "spec", "this must be a map")])
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        raise NotReadableError(findings(error, document, model)) from None


def findings(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Finding]:
    """What pydantic has found, each with its place."""
    found = []
    for one in error.errors(include_url=False, include_input=False):
        path = tuple(one["loc"])
        is_unknown = one["type"] == "extra_forbidden"
        what = words(one)
        if is_unknown:
            names = [field.alias or name for name, field in model.model_fields.items()]
            what = f"{path[-1]} is not known here" + (
                f": {near(str(path[-1]), names)}" if len(path) == 1 else ""
            )
        elif one["type"] == "missing":
            what = f"{path[-1]} is missing"
        line, column = document.place(path, at_key=is_unknown)
        found.append(Finding(line, column, written(path), what))
    return found


def written(path: Sequence[str | int], under: str = "spec") -> str:
    """A path as people read it: `spec.steps[0].script`."""
    for part in path:
        under += f"[{part}]" if isinstance(part, int) else f".{part}"
    return under


Kinds = Callable[[], Mapping[str, ObjectKind[Any]]]
"""The kinds of this host, once every plugin is ready."""
