"""Documents over HTTP: have them hold, write what there is as documents, and their schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from ringfence.access import Identity, Principal
from ringfence.bounded import STORABLE, Reason, ShortText
from ringfence.declaring.applying import Declarations, Wanted
from ringfence.declaring.exporting import Export, as_text
from ringfence.declaring.holding import ObjectHolder
from ringfence.declaring.kind import ObjectKind
from ringfence.declaring.reading import Told, WrongFilesError
from ringfence.declaring.schemas import schema_of
from ringfence.documents.reading import MAX_CHARACTERS
from ringfence.http.guard import identify
from ringfence.http.problems import Problem
from ringfence.http.routes import Router
from ringfence.plugins.runtime import Runtime

MOST_FILES = 1000
MOST_IN_WORDS = 30
"""So many findings are in the text of an answer; all are beside it."""
Source = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9:@/._+-]{0,299}$")]


class File(BaseModel):
    """A file: its path within the directory that is applied, with `/` between its parts, and what is in it."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[ShortText, Field(min_length=1)]
    text: Annotated[str, Field(max_length=MAX_CHARACTERS), STORABLE]


class ApplyWanted(BaseModel):
    """Documents to apply, with the files that they refer to."""

    model_config = ConfigDict(extra="forbid")

    files: Annotated[list[File], Field(min_length=1, max_length=MOST_FILES)]
    source: Source = "cli"
    reason: Reason | None = None
    dryRun: StrictBool = False
    prune: StrictBool = False
    takeOver: StrictBool = False


async def _caller(identity: Annotated[Identity, Depends(identify)]) -> Principal:
    return identity.principal


def build(runtime: Runtime) -> Router:
    """The routes. Whoever has a token may use them: each object needs the rules that its own routes need."""
    router = Router()

    def kinds() -> Mapping[str, ObjectKind[Any]]:
        every: Sequence[ObjectKind[Any]] = runtime.services.extensions(ObjectKind)
        return {one.kind: one for one in every}

    def holders() -> Sequence[ObjectHolder]:
        return runtime.services.extensions(ObjectHolder)

    declarations, export = Declarations(runtime.database, kinds, holders), Export(runtime.database, kinds)

    @router.post("/apply")
    async def apply(body: ApplyWanted, by: Annotated[Principal, Depends(_caller)]) -> dict[str, Any]:
        """Have all of these documents hold, or none of them if something is wrong with one."""
        files = {one.path: one.text for one in body.files}
        if len(files) != len(body.files):
            raise Problem(422, "A file is there twice", detail="each file has a path of its own")
        if declarations.is_held(body.source):
            detail = f"the source {body.source} is kept by a plugin: name one of your own, such as ci:shop"
            raise Problem(422, "Not a source of yours", detail=detail)
        wanted = Wanted(
            files,
            source=body.source,
            reason=body.reason,
            dry_run=body.dryRun,
            prune=body.prune,
            take_over=body.takeOver,
        )
        try:
            applied = await declarations.apply(wanted, by)
        except WrongFilesError as error:
            raise _refused(error) from error
        return {
            "objects": [one.to_wire() for one in applied.outcomes],
            "undeclared": [{"kind": kind, "name": name} for kind, name in applied.undeclared],
            "source": body.source,
            "dryRun": body.dryRun,
        }

    @router.get("/export")
    async def export_(
        by: Annotated[Principal, Depends(_caller)],
        kind: Annotated[list[ShortText] | None, Query(max_length=50)] = None,
    ) -> dict[str, Any]:
        """What there is of these kinds, or of all that the caller may see, as documents and as one text of YAML."""
        found = await export.documents(kind or (), by)
        return {"documents": [one for one, _ in found], "text": as_text(found)}

    @router.get("/schemas")
    async def list_schemas(_: Annotated[Principal, Depends(_caller)]) -> dict[str, Any]:
        every = sorted(kinds().values(), key=lambda one: one.order)
        return {"kinds": [{"kind": one.kind, "what": one.what} for one in every]}

    @router.get("/schemas/{kind}")
    async def show_schema(kind: ShortText, _: Annotated[Principal, Depends(_caller)]) -> dict[str, Any]:
        if (found := kinds().get(kind.removesuffix(".json"))) is None:
            raise Problem(404, "No such kind", detail=f"there is no kind {kind}: see /api/host/schemas")
        return schema_of(found)

    return router


def _refused(error: WrongFilesError) -> Problem:
    told = error.told
    more = f"\n… and {len(told) - MOST_IN_WORDS} more" if told[MOST_IN_WORDS:] else ""
    lines = "\n".join(map(_line, told[:MOST_IN_WORDS]))
    statuses = {one.status for one in told}
    status = statuses.pop() if len(statuses) == 1 else 422
    return Problem(
        status,
        "The documents cannot be applied",
        detail=f"{lines}{more}",
        errors=[one.to_wire() for one in told],
        needs=error.needs,
    )


def _line(told: Told) -> str:
    finding = told.finding
    return str(told) if told.file else (f"{finding.path}: " if finding.path else "") + finding.message
