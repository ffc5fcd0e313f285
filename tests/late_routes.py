"""Routes of hosts under test, built when they are first asked for anything.

A host builds all its routes when it starts: over a hundred with every plugin, a third of its start. It is a process's
only host, and answers nobody before; the tests have over a thousand, each of which is asked for a few routes at most.
Programs that tests start are as they are for users, and `eager` is so within the tests.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import fastapi.routing
import starlette.routing
from fastapi.routing import APIRoute

_build = APIRoute.__init__
_compile = functools.cache(starlette.routing.compile_path)
_LATER = "_to_be_built_with"


def install() -> None:
    """From now on, have the routes of FastAPI built late."""
    setattr(APIRoute, "__init__", _declare)  # noqa: B010 - a method in place of another
    setattr(APIRoute, "__getattr__", _built)  # noqa: B010 - asked for what a route does not have yet
    for module in (starlette.routing, fastapi.routing):
        setattr(module, "compile_path", _compiled)  # noqa: B010


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Have routes built where they are declared, as in every other process."""
    setattr(APIRoute, "__init__", _build)  # noqa: B010
    try:
        yield
    finally:
        setattr(APIRoute, "__init__", _declare)  # noqa: B010


def _declare(self: APIRoute, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
    """What tells whether a request is for this route; the rest is added when it is asked for."""
    self.path, self.endpoint = path, endpoint
    self.path_regex, self.path_format, self.param_convertors = _compiled(path)
    self.methods = {method.upper() for method in options.get("methods") or ["GET"]}
    self.include_in_schema = options.get("include_in_schema", True)
    setattr(self, _LATER, options)


def _built(self: APIRoute, name: str) -> Any:
    options = self.__dict__.pop(_LATER, None)
    if options is None:
        raise AttributeError(f"{type(self).__name__} has no {name}")
    _build(self, self.path, self.endpoint, **options)
    return getattr(self, name)


def _compiled(path: str) -> tuple[Any, str, dict[str, Any]]:
    regex, template, convertors = _compile(path)
    return regex, template, {**convertors}
