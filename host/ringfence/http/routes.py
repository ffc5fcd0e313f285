"""Routers whose routes are built once: when the application has them, under the path at which it serves them.

FastAPI builds each route of a router where it is declared, and all of them anew for the application that includes the
router, with the first request. For a host with every plugin that takes a fifth of a second each time, during which it
answers nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from fastapi.routing import APIRoute


@dataclass(frozen=True, slots=True)
class _Declared:
    path: str
    endpoint: Callable[..., Any]
    options: dict[str, Any]


class Router(APIRouter):
    """A router that keeps what is declared until `serve` builds it."""

    def __init__(
        self, *, prefix: str = "", dependencies: Sequence[Depends] = (), include_in_schema: bool = True
    ) -> None:
        super().__init__(prefix=prefix, dependencies=dependencies, include_in_schema=include_in_schema)
        self.declared: list[_Declared] = []

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Declare a route; the options are those of FastAPI."""
        self.declared.append(_Declared(self.prefix + path, endpoint, options))


def serve(
    app: FastAPI,
    router: APIRouter,
    *,
    prefix: str = "",
    tags: Sequence[str] = (),
    dependencies: Sequence[Depends] = (),
) -> None:
    """Have `app` serve what `router` has below `prefix`, as `include_router` does."""
    if not isinstance(router, Router):
        app.include_router(router, prefix=prefix, tags=[*tags], dependencies=[*dependencies])
        return
    for one in router.declared:
        more = {
            "tags": [*tags, *(one.options.get("tags") or ())],
            "dependencies": [
                *dependencies,
                *router.dependencies,
                *(one.options.get("dependencies") or ()),
            ],
            "include_in_schema": router.include_in_schema and one.options.get("include_in_schema", True),
        }
        app.router.add_api_route(prefix + one.path, one.endpoint, **{**one.options, **more})


def methods_and_paths(router: APIRouter) -> Iterator[tuple[str, str]]:
    """What `router` serves, as it was declared."""
    if isinstance(router, Router):
        for one in router.declared:
            for method in one.options.get("methods") or ("GET",):
                yield method.upper(), one.path
    for route in router.routes:
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                yield method, route.path
