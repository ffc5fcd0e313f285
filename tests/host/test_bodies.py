"""Bodies of requests and what is said of their length: no more is read than may be, and nothing odd is a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, Request
from ringfence import PluginContext
from ringfence.host import Host
from ringfence.testing import RunHost, served
from ringfence.web import Problem, read_body

from tests.host.plugins import MadePlugin
from tests.host.test_methods import said

MOST = 64


class Body:
    """A body in pieces, and how many of them have been read."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.read += 1
            yield piece


ODD = ["-1", "x", "", "1.5", "1e9", "+70", " 70", "0x46", "٧٠", "1, 1", "nan", "7_0"]
"""Lengths that are none: a body is counted as it comes."""


@pytest.mark.parametrize("declared", [*ODD, "0", "1", str(MOST), "0" * 30 + "7", None])
async def test_a_body_is_counted_as_it_comes_whatever_is_declared(declared: str | None) -> None:
    assert (
        await read_body(aiter(Body(b"a" * 60, b"b" * 4)), most=MOST, declared=declared) == b"a" * 60 + b"bbbb"
    )
    longer = Body(b"a" * 60, b"b" * 5, b"c" * 1000)
    with pytest.raises(Problem) as refused:
        await read_body(aiter(longer), most=MOST, declared=declared)
    assert (refused.value.status, longer.read) == (413, 2)


@pytest.mark.parametrize("declared", [str(MOST + 1), "9" * 20, "9" * 10_000])
async def test_nothing_is_read_of_a_body_that_is_declared_to_be_longer(declared: str) -> None:
    body = Body(b"a")
    with pytest.raises(Problem) as refused:
        await read_body(aiter(body), most=MOST, declared=declared)
    assert (refused.value.status, body.read) == (413, 0)


async def serve(context: PluginContext) -> None:
    router = APIRouter()

    @router.post("/taken")
    async def take(request: Request) -> dict[str, int]:
        declared = request.headers.get("content-length")
        return {"bytes": len(await read_body(request.stream(), most=MOST, declared=declared))}

    context.web.router(router)


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[MadePlugin("shop", init=serve)])


CHUNKED = "Transfer-Encoding: chunked"


async def test_a_real_host_answers_each_odd_length_and_none_of_them_is_a_fault(host: Host) -> None:
    """The server refuses what has no meaning by itself; what it lets through is counted."""
    chunks = "46\n" + "a" * 70 + "\n0\n\n"
    async with served(host) as url:
        for status, lengths, body in (
            (400, ["Content-Length: -1"], "a"),
            (400, ["Content-Length: x"], "a"),
            (400, [f"Content-Length: {'9' * 30}"], "a"),
            (400, [f"Content-Length: {'9' * 5000}"], "a"),
            (400, ["Content-Length: 1", "Content-Length: 2"], "ab"),
            (200, ["Content-Length: 1, 1"], "a"),  # the same twice, which RFC 9112 (6.3) allows
            (413, ["Content-Length: 9223372036854775807"], "a"),
            (413, ["Content-Length: 65"], "a" * 65),
            (200, ["Content-Length: 64"], "a" * 64),
            (200, [], ""),
            (413, [CHUNKED], chunks),
            (413, [CHUNKED, "Content-Length: 1"], chunks),  # the chunks count (RFC 9112, 6.3)
            (400, [CHUNKED], "x\na\n0\n\n"),
            (400, [CHUNKED], "-1\na\n0\n\n"),
            (400, [CHUNKED], "f" * 21 + "\na\n0\n\n"),
        ):
            head = "\n".join(
                ["POST /api/shop/taken HTTP/1.1", "Host: x", "Connection: close", *lengths, "", body]
            )
            answer = await said(url, head)
            assert answer.startswith(f"HTTP/1.1 {status} "), (lengths, body[:20], answer[:300])
