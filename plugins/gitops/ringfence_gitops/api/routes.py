"""The routes: sources, what they hold, what is released, and webhooks."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict, StrictBool, ValidationError
from ringfence.bounded import STORABLE, JsonObject, Label, Reason
from ringfence.web import (
    DEFAULT_LISTED,
    After,
    Limit,
    Principal,
    Problem,
    Router,
    not_valid,
    page,
    peer_of,
    require,
)

from ringfence_gitops.access_rules import AccessRules
from ringfence_gitops.sources.source import Source, SourceName, SourceSpec
from ringfence_gitops.sources.sources import Sources
from ringfence_gitops.syncing.webhooks import Webhooks

RECEIVE = "/hooks/{secret}"


class SyncAsked(BaseModel):
    """How a source is followed this once."""

    model_config = ConfigDict(extra="forbid")

    takeOver: StrictBool = False
    allowOlder: StrictBool = False


class ObjectNamed(BaseModel):
    """An object, and why it is released."""

    model_config = ConfigDict(extra="forbid")

    kind: Label
    name: Label
    reason: Reason | None = None


def build(sources: Sources, rules: AccessRules) -> Router:
    """The routes for people."""
    router = Router()
    Reader = Annotated[Principal, Depends(require(rules.read))]
    Manager = Annotated[Principal, Depends(require(rules.manage))]
    Syncer = Annotated[Principal, Depends(require(rules.sync))]
    Releaser = Annotated[Principal, Depends(require(rules.release))]
    Name = Annotated[str, Path(max_length=64), STORABLE]

    @router.get("/sources")
    async def list_sources(_: Reader, after: After = None, limit: Limit = DEFAULT_LISTED) -> dict[str, Any]:
        found = await sources.page(after=after or "", limit=limit + 1)
        listed = page(found, limit, lambda one: one.name)
        return {"sources": [one.to_wire() for one in listed.entries], "next": listed.next}

    @router.get("/sources/{name}")
    async def show_source(name: Name, _: Reader) -> dict[str, Any]:
        """A source, with the objects that it holds."""
        return await with_objects(await sources.one(name))

    @router.put("/sources/{name}", status_code=200)
    async def put_source(name: SourceName, body: JsonObject, manager: Manager) -> dict[str, Any]:
        """Add a source, or change one as a whole. It acts for whoever does."""
        spec = _spec(body)
        try:
            await sources.one(name)
        except Problem:
            return (await sources.create(name, spec, manager)).to_wire()
        return (await sources.change(name, spec, manager)).to_wire()

    @router.patch("/sources/{name}")
    async def change_source(name: Name, body: JsonObject, manager: Manager) -> dict[str, Any]:
        """Change a source; what is not said stays. It acts for whoever does."""
        before = (await sources.one(name)).spec.to_wire()
        return (await sources.change(name, _spec({**before, **body}), manager)).to_wire()

    @router.delete("/sources/{name}")
    async def remove_source(name: Name, manager: Manager) -> dict[str, Any]:
        """Follow a source no more. What it has applied stays, and belongs to nobody."""
        left = await sources.remove(name, manager)
        return {"removed": name, "orphaned": [{"kind": kind, "name": one} for kind, one in left]}

    @router.post("/sources/{name}/sync", status_code=202)
    async def sync_source(name: Name, syncer: Syncer, body: SyncAsked = SyncAsked()) -> dict[str, Any]:  # noqa: B008
        """Have a source followed at once. To take objects over, or to go back, also needs to manage sources."""
        if (body.takeOver or body.allowOlder) and not syncer.holds(rules.manage.name):
            detail = f"{syncer.name} does not hold the access rule {rules.manage.name}"
            raise Problem(403, detail=detail, rule=rules.manage.name)
        job = await sources.sync(name, syncer.name, take_over=body.takeOver, allow_older=body.allowOlder)
        return {"source": name, "job": str(job)}

    @router.post("/sources/{name}/webhook", status_code=201)
    async def make_webhook(name: Name, _: Manager) -> dict[str, Any]:
        """Make a new webhook's address for a source, which is shown this once. The one before is void."""
        return {"source": name, "path": await sources.make_webhook(name)}

    @router.delete("/sources/{name}/webhook", status_code=204)
    async def remove_webhook(name: Name, _: Manager) -> None:
        """Have a source's webhook lead nowhere any more."""
        await sources.remove_webhook(name)

    @router.get("/released")
    async def list_released(_: Reader) -> dict[str, Any]:
        """The objects that are released, each with its source."""
        return {"released": await sources.released()}

    @router.post("/release")
    async def release(body: ObjectNamed, releaser: Releaser) -> dict[str, Any]:
        """Let an object that comes from git be changed by hand, until it is given back."""
        source = await sources.release(body.kind, body.name, releaser, reason=body.reason)
        return {"kind": body.kind, "name": body.name, "source": source}

    @router.post("/give-back")
    async def give_back(body: ObjectNamed, releaser: Releaser) -> dict[str, Any]:
        """Have an object that was released come from git again."""
        source = await sources.give_back(body.kind, body.name, releaser)
        return {"kind": body.kind, "name": body.name, "source": source}

    async def with_objects(source: Source) -> dict[str, Any]:
        return {**source.to_wire(), "held": await sources.objects(source)}

    return router


def open_to_all(webhooks: Webhooks) -> Router:
    """The route of webhooks: whoever knows an address may use it."""
    router = Router()

    @router.post(RECEIVE, status_code=202)
    async def receive(
        secret: Annotated[str, Path(max_length=200), STORABLE], request: Request
    ) -> dict[str, Any]:
        """Have the source followed whose webhook address this is."""
        source = await webhooks.receive(secret, request.headers, peer_of(request), request.stream())
        return {"source": source}

    return router


def _spec(body: dict[str, Any]) -> SourceSpec:
    try:
        return SourceSpec.model_validate(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        raise not_valid("The source is not valid", errors) from None
