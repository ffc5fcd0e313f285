"""What a browser sends along, read within bounds: fields of forms and queries, where to go next, and what was said."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote

from fastapi import Request, Response

from ringfence.bounded import storable
from ringfence.http import browsers
from ringfence.http.problems import Problem

MOST_FIELDS = 500
MOST_FORM_BYTES = 4 * 1024 * 1024
_SAID = "ringfence-said"
SAID_SECONDS = 60
MOST_SAID = 500
_PLACE = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1999}")


def is_own_place(to: str) -> bool:
    """Whether this is a place of this host: a path, and not what a browser takes for another host's address."""
    return _PLACE.fullmatch(to) is not None


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form. Lines end with a line feed, whichever way a browser has sent them. Raises `Problem`."""
    type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if type != "application/x-www-form-urlencoded":
        raise Problem(
            415, detail="send the fields as application/x-www-form-urlencoded, as the page's form does"
        )
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_FORM_BYTES:
            raise Problem(413, detail=f"a form may have at most {MOST_FORM_BYTES} bytes")
    fields = _fields(bytes(body).decode("latin-1"))
    return {name: value.replace("\r\n", "\n").replace("\r", "\n") for name, value in fields.items()}


def not_ours(request: Request) -> str | None:
    """Why a form is not known to come from a page of ours, if it is not: browsers say where each comes from."""
    headers = request.headers
    why = browsers.foreign(request.method, request.url.scheme, headers)
    if why is None and "origin" not in headers and "sec-fetch-site" not in headers:
        return "it does not say which page it comes from"
    return why


def query_of(request: Request) -> dict[str, str]:
    """The fields of a query. Raises `Problem`."""
    return _fields(request.scope["query_string"].decode("latin-1"))


def _fields(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
        return {storable(name): storable(value) for name, value in pairs}
    except ValueError as error:
        raise Problem(422, "The request is not valid", detail=f"a field cannot be read: {error}") from error


def _said_cookie(scheme: str) -> str:
    """With TLS no sibling site of ours can have put words there, as with the session's cookie."""
    return f"__Host-{_SAID}" if scheme == "https" else _SAID


def say(response: Response, said: str, *, scheme: str) -> None:
    """Have the next page say something, once; nothing, to have said it."""
    response.set_cookie(
        _said_cookie(scheme),
        quote(said[:MOST_SAID]),
        max_age=SAID_SECONDS if said else 0,
        httponly=True,
        samesite="strict",
        secure=scheme == "https",
    )


def said_before(request: Request) -> str | None:
    """What the page before has left to say."""
    found = request.cookies.get(_said_cookie(request.url.scheme))
    return None if not found else unquote(found)[:MOST_SAID]
