"""What a request's body may be as JSON: each name once in an object, and most of a long one in texts.

Threat: an object with the same name twice says one thing to whoever looked at it on its way, and another to us; and a
long body of nothing but brackets and commas holds up everybody else of this process while it is read. Mechanism: what
stands outside of texts is counted as the body comes, a piece at a time, and bounded: scripts and documents are texts,
which are read at the speed of memory. What has come is read once for its names alone. What is no JSON at all is left to
the route, which says so. Not covered: bodies that a plugin reads piece by piece, and whether a name means anything.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringfence.http.problems import Problem

MAX_BYTES_BESIDE_TEXTS = 256 * 1024
"""Room for tens of thousands of numbers or names; the quotation marks of a text count, what is in it does not."""
MOST_QUOTED = 100


class JsonBodies:
    """An ASGI application that answers 413 or 422 to such a body, and leaves the rest to `app`.

    Requests to the paths in `streamed`, in which names may stand in braces, are left to `app` as they are.
    """

    def __init__(self, app: ASGIApp, *, streamed: Collection[str] = frozenset()) -> None:
        self._app = app
        self._streamed = tuple(compile_path(path)[0] for path in streamed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        if (
            scope["type"] != "http"
            or not is_json(Headers(scope=scope).get("content-type", ""))
            or any(path.match(scope["path"]) for path in self._streamed)
        ):
            await self._app(scope, receive, send)
            return
        try:
            read = [await _read(receive)]
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        except HTTPException as refused:
            told = Problem(refused.status_code, detail=refused.detail, headers=refused.headers)
            await told.response()(scope, receive, send)
            return

        async def given() -> Message:
            return read.pop() if read else await receive()

        await self._app(scope, given, send)


async def _read(receive: Receive) -> Message:
    """The whole body as one message, or that the other side has gone. Raises `Problem`."""
    beside, body = Beside(), bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        piece = message.get("body", b"")
        body += piece
        if beside.add(piece) > MAX_BYTES_BESIDE_TEXTS:
            detail = f"a body of JSON may have at most {MAX_BYTES_BESIDE_TEXTS} bytes that stand in no text"
            raise Problem(413, detail=detail)
        if not message.get("more_body", False):
            break
    if (wrong := what_is_wrong(bytes(body))) is not None:
        raise Problem(422, "The request is not valid", detail=wrong)
    return {"type": "http.request", "body": bytes(body), "more_body": False}


def is_json(content_type: str) -> bool:
    """Whether a body of that type is read as JSON."""
    kind, _, name = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (name == "json" or name.endswith("+json"))


class Beside:
    """How much of a text of JSON, which comes in pieces, stands outside of the texts in it."""

    def __init__(self) -> None:
        self._count = 0
        self._in_text = False
        self._begun = b""

    def add(self, piece: bytes) -> int:
        """How much it is with this piece, too."""
        piece = self._begun + piece
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        self._begun = b"\\" if backslashes % 2 else b""
        piece = piece[: len(piece) - len(self._begun)]
        # Of a row of backslashes each second one is escaped by the one before, so none of them escapes another thing.
        pieces = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        self._count += sum(map(len, pieces[self._in_text :: 2])) + len(pieces) - 1
        self._in_text ^= len(pieces) % 2 == 0
        return self._count


class _TwiceError(Exception):
    pass


def what_is_wrong(body: bytes) -> str | None:
    """What is wrong with a body that is JSON, in words; None where nothing is, or where it is no JSON."""
    if not json.detect_encoding(body).startswith("utf-8"):
        return "JSON is sent as UTF-8 (RFC 8259, section 8.1)"
    try:
        json.loads(body, object_pairs_hook=_once)
    except _TwiceError as error:
        return f"the name {str(error)[:MOST_QUOTED]!r} stands twice in one object of the body"
    except (ValueError, RecursionError):
        return None
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = set()
        for name, _ in pairs:
            if name in names:
                raise _TwiceError(name)
            names.add(name)
    return found
