"""Bodies of JSON: each name once in an object, most of a long one in texts; and refusals are short."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from ringfence import PluginContext
from ringfence.http.problems import MOST_TOLD
from ringfence.testing import RunHost, client
from ringfence.web.json_bodies import MAX_BYTES_BESIDE_TEXTS, Beside

from tests.host.plugins import MadePlugin

LONGEST_PAUSE_SECONDS = 1.0
"""Processor time; what held up everybody took six seconds and more."""


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = ""
    more: Any = None
    numbers: Annotated[list[str], Field(max_length=10**7)] = []


async def serve(context: PluginContext) -> None:
    router = APIRouter()

    @router.post("/things")
    async def make(thing: Thing) -> dict[str, int]:
        return {"characters": len(thing.name)}

    @router.post("/streamed")
    async def stream(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    context.web.router(router)
    context.web.streams("/streamed")


@pytest.fixture
async def http(run_host: RunHost) -> AsyncIterator[httpx.AsyncClient]:
    host = await run_host(plugins=[MadePlugin("shop", init=serve)])
    async with client(host) as http:
        yield http


async def posted(
    http: httpx.AsyncClient, body: bytes, *, to: str = "things", type: str = "application/json"
) -> httpx.Response:
    return await http.post(f"/api/shop/{to}", content=body, headers={"content-type": type})


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"name":"a","name":"b"}', "name"),
        (b'{"name":"a","n\\u0061me":"b"}', "name"),
        (b'{"more":[{"x":{"y":1,"z":2,"y":1}}]}', "y"),
        (b'\xef\xbb\xbf{"name":"a","name":"b"}', "name"),
        (b'{"more":{"":1,"":2}}', ""),
        (b'{"' + b"n" * 1000 + b'":1,"' + b"n" * 1000 + b'":2}', "n" * 100),
    ],
)
async def test_a_name_that_stands_twice_in_an_object_is_refused_by_name(
    http: httpx.AsyncClient, body: bytes, name: str
) -> None:
    for type in ("application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"):
        refused = await posted(http, body, type=type)
        assert refused.status_code == 422
        assert refused.json()["detail"] == f"the name {name!r} stands twice in one object of the body"


@pytest.mark.parametrize(
    "body", [b'{"name":"a","more":{"name":"b"}}', b'{"more":[{"a":1},{"a":2}]}', b'{"name":"b","Name":""}']
)
async def test_the_same_name_in_two_objects_is_no_mistake(http: httpx.AsyncClient, body: bytes) -> None:
    refused = await posted(http, body)
    assert "twice" not in refused.text


async def test_json_in_another_encoding_than_utf_8_is_refused(http: httpx.AsyncClient) -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        refused = await posted(http, '{"name": "a"}'.encode(encoding))
        assert (refused.status_code, "UTF-8" in refused.json()["detail"]) == (422, True)


async def test_what_is_no_json_and_what_is_of_another_type_is_left_to_its_route(
    http: httpx.AsyncClient,
) -> None:
    twice = b'{"name":"a","name":"b"}'
    assert (await posted(http, twice, to="streamed")).json() == {"bytes": len(twice)}
    assert "is not JSON" in (await posted(http, b'{"name":"a","name":')).json()["detail"]
    assert "must be a JSON object" in (await posted(http, twice, type="text/plain")).json()["detail"]
    assert (await posted(http, b"[" * 100_000)).status_code == 400


async def test_a_long_text_is_taken_and_so_much_beside_texts_is_not(http: httpx.AsyncClient) -> None:
    text = json.dumps({"name": '"[1,2],\\' * 500_000}).encode()
    assert (await posted(http, text)).json() == {"characters": 4_000_000}
    for beside in (b"[],", b"1,", b'"",', b" "):
        many = MAX_BYTES_BESIDE_TEXTS // len(beside) + 1
        refused = await posted(http, b'{"more":[' + beside * many + b"1]}")
        assert (refused.status_code, str(MAX_BYTES_BESIDE_TEXTS) in refused.json()["detail"]) == (413, True)


async def test_of_many_things_that_are_wrong_the_first_are_told(http: httpx.AsyncClient) -> None:
    refused = await posted(http, json.dumps({f"x{number}": 1 for number in range(2000)}).encode())
    assert refused.status_code == 422
    assert len(refused.json()["errors"]) == MOST_TOLD
    assert refused.json()["detail"].endswith(f"; and {2000 - MOST_TOLD} more")


@pytest.mark.parametrize(
    "body",
    [
        b'{"more":[' + b"[]," * 5_000_000 + b"1]}",
        b'{"numbers":[' + b"1," * 8_000_000 + b"1]}",
        b"{" + b",".join(b'"%x":1' % number for number in range(100_000)) + b"}",
        b"{" + b",".join(b'"%x":1' % number for number in range(40_000)) + b"}",
    ],
    ids=["lists", "numbers", "names", "fewer names"],
)
async def test_no_body_holds_up_everybody_for_long(http: httpx.AsyncClient, body: bytes) -> None:
    begun = time.process_time()
    refused = await posted(http, body)
    took = time.process_time() - begun
    assert took < LONGEST_PAUSE_SECONDS
    assert refused.status_code in {413, 422}
    assert len(refused.content) < 64 * 1024


JSON = st.recursive(
    st.none() | st.integers() | st.text('a"\\é\x00[{,:', max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a"\\', max_size=4), inner),
    max_leaves=20,
)


@given(JSON, st.booleans(), st.lists(st.integers(1, 9), min_size=1))
def test_what_stands_beside_texts_is_counted_alike_however_a_body_is_cut(
    value: Any, is_ascii: bool, sizes: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    counted, beside, rest, turn = 0, Beside(), text.encode(), 0
    while rest:
        size = sizes[turn % len(sizes)]
        counted, rest, turn = beside.add(rest[:size]), rest[size:], turn + 1
    assert counted == len(_without_texts(text))


def _without_texts(text: str) -> str:
    """The same with each text emptied, by the reader of Python's own library."""
    found, at = "", 0
    while at < len(text):
        found += text[at]
        at += 1
        if found[-1] == '"':
            _, at = json.decoder.scanstring(text, at)  # type: ignore[attr-defined]
            found += '"'
    return found
