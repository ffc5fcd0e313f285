"""`GET /api/host/status`: whether all is well, in one answer, as far as whoever asks may see it."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request

from ringfence.access import Principal
from ringfence.http.guard import peer_of, require
from ringfence.http.routes import Router
from ringfence.pages.asking import Asking
from ringfence.pages.declared import View
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.web.health import readiness
from ringfence.web.host_routes import READ_INSTANCE

MOST_TOLD = 100


def build(runtime: Runtime, plugins: Sequence[LoadedPlugin], asking: Asking) -> Router:
    """The route, over what the overview is made of."""
    router = Router()

    @router.get("/status")
    async def status(
        request: Request, principal: Annotated[Principal, Depends(require(READ_INSTANCE))]
    ) -> dict[str, Any]:
        told = await asking.overview(_view(request, principal))
        ready = await readiness(runtime, plugins)
        left_out = [one.info.id for one in plugins if one.error is not None]
        bad = any(one.kind == "bad" for one in told.attention)
        return {
            "ok": bool(ready["ready"]) and not (bad or left_out or told.silent or told.hidden),
            "instance": str(runtime.instance_id),
            "version": importlib.metadata.version("ringfence"),
            "ready": ready["ready"],
            "draining": ready["draining"],
            "database": ready["database"],
            "eventsBehind": ready["tail"]["eventsBehind"],
            "plugins": [one.info.id for one in plugins if one.alive],
            "leftOut": left_out,
            "silent": list(told.silent),
            "counts": [{"what": one.what, "number": one.number, "unit": one.unit} for one in told.counts],
            "attention": [
                {"text": one.text, "kind": one.kind, "at": one.to} for one in told.attention[:MOST_TOLD]
            ],
            "hidden": told.hidden + len(told.attention[MOST_TOLD:]),
        }

    return router


def _view(request: Request, principal: Principal) -> View:
    """As the overview sees whoever asks. No session of a browser's belongs to it."""

    async def rights() -> Principal | None:
        return principal

    return View(
        principal=principal,
        parameters={},
        query={},
        peer=peer_of(request),
        session="",
        token="",
        now=dt.datetime.now(dt.UTC),
        rights=rights,
    )
