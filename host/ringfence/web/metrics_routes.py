"""`GET /metrics`: what Prometheus reads, for who holds the rule."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response

from ringfence.access import AccessRule, Principal
from ringfence.http.guard import require
from ringfence.http.routes import Router
from ringfence.metrics.scraping import Scraping

READ_METRICS = AccessRule(
    "host", "metrics", "read", "Read the metrics of the host and its plugins, as Prometheus does"
)


def build(scraping: Scraping) -> Router:
    """The route, over the metrics of one instance."""
    router = Router()

    @router.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, tags=["host"]
    )
    async def metrics(request: Request, _: Annotated[Principal, Depends(require(READ_METRICS))]) -> Response:
        text, kind = await scraping.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": kind, "Cache-Control": "no-store"})

    return router
