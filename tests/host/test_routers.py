"""Routers: what is declared on one of ours is served as FastAPI's own would be, and built once."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.routing import APIRoute
from ringfence.http.routes import methods_and_paths, serve
from ringfence.web import Router

from tests.late_routes import eager


def told(who: str) -> Any:
    """A dependency that says that it has been asked."""

    async def ask() -> None:
        ASKED.append(who)

    return Depends(ask)


ASKED: list[str] = []


def declared(router: APIRouter) -> APIRouter:
    @router.get("/things", tags=["things"])
    async def list_things(limit: Annotated[int, Query(le=10)] = 5) -> dict[str, int]:
        """All things."""
        return {"limit": limit}

    @router.put("/things/{name}", status_code=201, dependencies=[told("the route")])
    async def put_thing(name: str, body: dict[str, int]) -> dict[str, Any]:
        return {"name": name, **body}

    @router.delete("/things/{name}", include_in_schema=False)
    async def remove_thing(name: str) -> None: ...

    return router


def application(router: APIRouter) -> FastAPI:
    app = FastAPI()
    serve(app, router, prefix="/api/shop", tags=["shop"], dependencies=[told("the application")])
    return app


@pytest.mark.parametrize("kind", [Router, APIRouter])
def test_what_it_serves_is_told_before_it_is_served(kind: type[APIRouter]) -> None:
    router = declared(kind(prefix="/v1"))
    assert sorted(methods_and_paths(router)) == [
        ("DELETE", "/v1/things/{name}"),
        ("GET", "/v1/things"),
        ("PUT", "/v1/things/{name}"),
    ]


async def test_one_of_ours_is_served_and_described_as_fastapis_own() -> None:
    of_router: dict[str, Any] = {"prefix": "/v1", "dependencies": [told("the router")]}
    ours, theirs = (application(declared(kind(**of_router))) for kind in (Router, APIRouter))
    assert ours.openapi() == theirs.openapi()
    answers, asked = [], []
    for app in (ours, theirs):
        ASKED.clear()
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test/api/shop/v1") as api:
            put = await api.put("/things/a", json={"size": 3})
            listed, wrong = await api.get("/things?limit=7"), await api.get("/things?limit=70")
        answers.append(([(one.status_code, one.json()) for one in (put, listed)], wrong.status_code))
        asked.append(ASKED.copy())
    assert answers[0] == answers[1]
    assert asked[0] == asked[1]
    assert asked[0][:3] == ["the application", "the router", "the route"]


def test_each_route_is_built_once_before_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def counted(self: APIRoute, path: str, *args: Any, **more: Any) -> None:
        built.append(path)
        build(self, path, *args, **more)

    with eager(), monkeypatch.context() as patched:
        build = APIRoute.__init__
        patched.setattr(APIRoute, "__init__", counted)
        router = declared(Router())
        assert built == []
        app = application(router)
    paths = ["/api/shop/things", "/api/shop/things/{name}", "/api/shop/things/{name}"]
    assert built == paths
    assert [one.path for one in app.routes if isinstance(one, APIRoute)] == paths


def test_a_router_that_is_to_leave_the_description_leaves_all_its_routes_out() -> None:
    app = application(declared(Router(include_in_schema=False)))
    assert app.openapi()["paths"] == {}


def test_routes_of_hosts_under_test_are_built_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[str] = []
    monkeypatch.setattr(
        "fastapi.routing._populate_api_route_state", lambda _, path, *__, **___: built.append(path)
    )
    first, *_ = [one for one in application(declared(Router())).routes if isinstance(one, APIRoute)]
    assert (first.path, first.methods, first.include_in_schema, built) == (
        "/api/shop/things",
        {"GET"},
        True,
        [],
    )
    with pytest.raises(AttributeError):
        assert first.dependant
    assert built == ["/api/shop/things"]
