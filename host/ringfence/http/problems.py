"""Errors as problem details (RFC 9457): one shape for every error that the API answers with."""

from __future__ import annotations

import http
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ringfence.bounded import cleaned_json
from ringfence.http.request_ids import current_request_id
from ringfence.refusals import in_words

MEDIA_TYPE = "application/problem+json"
AN_ID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
MOST_QUOTED = 100
MOST_TOLD = 100
"""How many of the things that are wrong with one request are told."""


class Problem(Exception):
    """An error to answer with. `detail` says what to do; `extra` are further members, such as the current revision.

    The title is by default that of the status.
    """

    def __init__(
        self,
        status: int,
        title: str | None = None,
        *,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        self.title = title or http.HTTPStatus(status).phrase
        super().__init__(detail or self.title)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self) -> JSONResponse:
        """The problem as an HTTP response."""
        body = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            **({} if self.detail is None else {"detail": self.detail}),
            **self.extra,
            **({} if (id := current_request_id()) is None else {"requestId": id}),
        }
        # It may quote what was refused for what it holds.
        return JSONResponse(cleaned_json(body), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def not_valid(title: str, errors: Iterable[Mapping[str, Any]]) -> Problem:
    """A 422 about what does not fit its model: `errors` as pydantic lists them, each by a JSON pointer (RFC 6901).

    The first `MOST_TOLD` are told.
    """
    every = list(errors)
    found = [
        {"pointer": "/" + "/".join(str(step) for step in one["loc"]), "detail": in_words(one)}
        for one in every[:MOST_TOLD]
    ]
    detail = "; ".join(f"{one['pointer']}: {one['detail']}" for one in found)
    if every[MOST_TOLD:]:
        detail += f"; and {len(every) - MOST_TOLD} more"
    return Problem(422, title, detail=detail, errors=found)


def install(app: FastAPI) -> None:
    """Have every error of `app` answered as a problem."""

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_exception(_request: Request, error: HTTPException) -> JSONResponse:
        return Problem(error.status_code, detail=str(error.detail), headers=error.headers).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        if (detail := _no_such_id(found)) is not None:
            return Problem(422, "Not an id", detail=detail).response()
        return not_valid("The request is not valid", found).response()


def _no_such_id(errors: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with an id in a path, in words, where that is all that is wrong: people type ids into commands."""
    if len(errors) != 1 or errors[0]["loc"][:1] != ("path",):
        return None
    given = str(errors[0].get("input"))[:MOST_QUOTED]
    kind = str(errors[0]["type"])
    if kind.startswith("uuid"):
        return f"{given!r} is not an id: an id is as lists show it, such as {AN_ID}"
    if kind.startswith("int") or kind in {"greater_than_equal", "less_than_equal"}:
        return f"{given!r} is not a number that lists show: such a number is 1 or greater"
    return None
