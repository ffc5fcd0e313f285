"""Packages over HTTP: what is allowed, the sets, and their locks."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
from typing import Annotated, Any, Self

from fastapi import Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, ConfigDict, Field, StrictBool, model_validator
from ringfence import AccessRule, WireModel
from ringfence.bounded import STORABLE, Reason, ShortText
from ringfence.scripts import DEFAULT_SET, ScriptKind, ScriptRequest
from ringfence.scripts.packages.lock import Ecosystem, Sha256
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    Router,
    cursor,
    page,
    parts_of,
    require,
)

from ringfence_script_packages.packages.allowlist import Allowlist
from ringfence_script_packages.packages.archives import ArchiveError
from ringfence_script_packages.packages.carrying import Carrying, NotInstalledError
from ringfence_script_packages.packages.contents import Contents
from ringfence_script_packages.packages.errors import PackagesError
from ringfence_script_packages.packages.requirements import (
    NamedTwiceError,
    RequirementError,
    allowable,
    everywhere,
)
from ringfence_script_packages.packages.sets import NoSetError, Sets, own_set_name
from ringfence_script_packages.packages.upkeep import Upkeep
from ringfence_script_packages.service import ScriptSets

IMPORT = "/packages/import"
MOST_CHARACTERS = 1024 * 1024
"""How long a script may be that is looked at."""
MOST_AT_ONCE = 200
"""How many packages one request allows."""


SetName = Annotated[ShortText, AfterValidator(own_set_name)]
AnySet = Annotated[str, Path(max_length=200), STORABLE]


class PackagesAllowed(WireModel):
    """Packages to allow in a set, as `requests>=2` or `zod@^3`, and why."""

    model_config = ConfigDict(extra="forbid")

    packages: Annotated[
        list[Annotated[str, Field(max_length=500), STORABLE]], Field(min_length=1, max_length=MOST_AT_ONCE)
    ]
    ecosystem: Ecosystem = Ecosystem.PYPI
    set: SetName = DEFAULT_SET
    reason: Reason | None = None


class ScriptShown(WireModel):
    """A script, by which the set is found that it imports from: the one that is named, or that of its own text."""

    model_config = ConfigDict(extra="forbid")

    script: Annotated[str, Field(max_length=MOST_CHARACTERS), STORABLE] | None = None
    kind: ScriptKind = ScriptKind.AUTO
    name: ShortText = ""
    packages: ShortText | None = None

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        self.request()
        return self

    def request(self) -> ScriptRequest | None:
        """The script as one would be run. Raises ValueError."""
        return None if self.script is None else ScriptRequest(self.kind, self.script, name=self.name)


class InstallWanted(WireModel):
    """Whether newer versions are wanted too, and why."""

    model_config = ConfigDict(extra="forbid")

    upgrade: StrictBool = False
    reason: Reason | None = None


def build(
    allowlist: Allowlist,
    sets: Sets,
    contents: Contents,
    upkeep: Upkeep,
    carrying: Carrying,
    scripts: ScriptSets,
    *,
    manage: AccessRule,
    read: AccessRule,
) -> Router:
    """The routes."""
    router = Router(prefix="/packages")
    Manager = Annotated[Principal, Depends(require(manage))]
    Reader = Annotated[Principal, Depends(require(read))]

    @router.get("/entries")
    async def list_entries(
        _: Reader,
        set: Annotated[ShortText | None, Query(description="only those of this set")] = None,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        begin = ("", "", "") if after is None else _key(after)
        found = await allowlist.page(after=begin, set=set, limit=limit + 1)
        listed = page(found, limit, lambda entry: cursor(*entry.key))
        return {"entries": [entry.to_wire() for entry in listed.entries], "next": listed.next}

    @router.post("/entries")
    async def allow(body: PackagesAllowed, manager: Manager) -> dict[str, Any]:
        try:
            wanted = allowable(body.ecosystem, body.packages)
        except NamedTwiceError as error:
            raise Problem(422, "A package is named twice", detail=str(error)) from None
        except RequirementError as error:
            raise _not_allowable(error) from error
        entries = await allowlist.allow(body.set, wanted, reason=body.reason, by=manager.name)
        return {"entries": [entry.to_wire() for entry in entries]}

    @router.delete("/entries")
    async def remove(
        manager: Manager,
        name: Annotated[ShortText, Query(description="the package's name")],
        ecosystem: Ecosystem = Ecosystem.PYPI,
        set: ShortText = DEFAULT_SET,
        reason: Reason | None = None,
    ) -> dict[str, Any]:
        try:
            wanted = everywhere(ecosystem, name)
        except RequirementError as error:
            raise _not_allowable(error) from error
        removed = await allowlist.remove(set, ecosystem, wanted.name, reason=reason, by=manager.name)
        if removed is None:
            raise Problem(
                404,
                "No such entry",
                detail=f"{wanted.name} ({ecosystem.value}) is not allowed in the set {set}",
            )
        return removed.to_wire()

    @router.get("/sets")
    async def list_sets(_: Reader, after: After = None, limit: Limit = DEFAULT_LISTED) -> dict[str, Any]:
        found = await sets.page(after=after or "", limit=limit + 1)
        listed = page(found, limit, lambda one: one.name)
        return {"sets": [one.to_wire() for one in listed.entries], "next": listed.next}

    @router.get("/sets/{name}")
    async def show_set(name: AnySet, reader: Reader) -> dict[str, Any]:
        with _problems():
            return await contents.of(await sets.get(name), reader)

    @router.delete("/sets/{name}")
    async def delete_set(name: AnySet, manager: Manager, reason: Reason | None = None) -> dict[str, Any]:
        if not await sets.delete(name, by=manager.name, reason=reason):
            raise Problem(404, "No such set", detail=str(NoSetError(name)))
        return {"deleted": name}

    @router.post("/sets/{name}/install", status_code=202)
    async def install(name: AnySet, body: InstallWanted, manager: Manager) -> dict[str, Any]:
        with _problems():
            asked = await sets.request(name, upgrade=body.upgrade, by=manager.name, reason=body.reason)
        return asked.to_wire()

    @router.post("/scripts")
    async def find_set(body: ScriptShown, _: Reader) -> dict[str, Any]:
        """The set of a script that is run once; null for one that says nothing."""
        with _problems():
            return {"set": await scripts.of(body.request(), named=body.packages)}

    @router.post("/scripts/install", status_code=202)
    async def install_for(body: ScriptShown, manager: Manager) -> dict[str, Any]:
        """Make and install the set that a script asks for in its own text."""
        with _problems():
            name = await scripts.of(body.request(), named=body.packages, by=manager.name)
            if name is None:
                raise Problem(
                    422,
                    "There is nothing to install",
                    detail="the script does not say what it imports (PEP 723)",
                )
            return (await sets.get(name)).to_wire()

    @router.get("/locks/{hash}")
    async def show_lock(hash: Annotated[Sha256, Path()], _: Reader) -> dict[str, Any]:
        lock = await sets.lock(hash)
        if lock is None:
            raise Problem(404, "No such lock", detail=f"there is no lock {hash}")
        return {"hash": lock.hash, **lock.model_dump(mode="json", by_alias=True, exclude={"requirements"})}

    @router.get("/audit")
    async def show_audit(_: Reader) -> dict[str, Any]:
        return {"sets": await upkeep.audits.report()}

    @router.post("/audit")
    async def audit(_: Manager) -> dict[str, Any]:
        """Look now, and answer what is known then."""
        await upkeep.audits.audit()
        return {"sets": await upkeep.audits.report()}

    @router.post("/gc")
    async def collect(_: Manager) -> dict[str, Any]:
        return (await upkeep.collector.collect()).to_wire()

    @router.get("/sets/{name}/archive", response_class=StreamingResponse)
    async def export(name: AnySet, _: Reader) -> StreamingResponse:
        """The set as a tar archive, for a host without internet."""
        with _problems():
            head = await carrying.head(name)
        return StreamingResponse(carrying.archive(head), media_type="application/x-tar")

    @router.post(IMPORT.removeprefix("/packages"))
    async def take_in(
        request: Request,
        manager: Manager,
        set: Annotated[SetName | None, Query(description="by default, the set that it was")] = None,
    ) -> dict[str, Any]:
        """Take in such an archive, which is the body. Only once all of it is stored does the set change."""
        with _problems():
            return await carrying.take_in(request.stream(), name=set, by=manager.name)

    return router


class _problems:
    """Turns what cannot be done into problem details."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NoSetError):
            raise Problem(404, "No such set", detail=str(error)) from error
        if isinstance(error, PackagesError):
            detail, wire = error.with_hint, error.to_wire()
            raise Problem(422, "The packages cannot be had", detail=detail, problem=wire) from error
        if isinstance(error, ArchiveError):
            raise Problem(422, "The archive cannot be taken in", detail=str(error)) from error
        if isinstance(error, NotInstalledError):
            raise Problem(409, "The set is not installed", detail=str(error)) from error


def _not_allowable(error: RequirementError) -> Problem:
    return Problem(422, "The package cannot be allowed", detail=str(error))


def _key(after: str) -> tuple[str, str, str]:
    set, ecosystem, name = parts_of(after, 3)
    return set, ecosystem, name
