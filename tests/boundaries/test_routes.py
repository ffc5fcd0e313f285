"""Every route that there is, with every parameter and field of it: what must not be taken is a 4xx, never a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute

from tests.boundaries.hostile import TIMES, Attempt, Walk, text_of
from tests.health_checks.conftest import CHECKS, definition
from tests.satellite.instances import RUNS, SATELLITES, Instance

pytestmark = pytest.mark.usefixtures("no_fault_is_logged")

RUN = "the run in a path"
WORDS = ("\0", "a\0b", "nan", "inf", "-inf", "1e400", "9" * 400, "x" * 3000, "\ud800", *TIMES)
"""What a query or a path may hold instead of a fitting word, before it is quoted."""
HEADERS = (
    b"\xff\xfe",
    b"9" * 400,
    b'"' + b"9" * 18 + b'"',
    b"\xc3\xa9",
    b"x" * 3000,
    b'"1", "2"',
    b"nan",
    b"",
)


@asynccontextmanager
async def over_the_wire(instance: Instance) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": instance.api.headers["authorization"]}
    async with httpx.AsyncClient(base_url=instance.url, headers=headers, timeout=30) as api:
        yield api


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def things(instance: Instance) -> dict[str, str]:
    """Something for each kind of id in a path, so that requests get as far as they can."""
    satellite = await instance.register()
    check = await instance.api.post(CHECKS, json=definition(runsOn={"tags": ["nowhere"]}))
    run = (await instance.ask(satellite)).json()["id"]
    return {CHECKS: check.json()["id"], SATELLITES: satellite.id, RUN: run}


def filled(path: str, ids: dict[str, str], **words: str) -> str:
    """The path with a value for each parameter; `words` are given ones."""
    known = next((id for start, id in ids.items() if path.startswith(start)), "none")
    for name in [part.split("}")[0] for part in path.split("{")[1:]]:
        fitting = {"id": known, "run": ids[RUN], "revision": "0", "name": "API_TOKEN"}.get(name, "none")
        path = path.replace(f"{{{name}}}", words.get(name, fitting))
    return path


def quoted(word: str) -> str:
    return quote(word, safe="", errors="surrogatepass")


@pytest.mark.slow
async def test_a_body_that_must_not_be_taken_is_refused_wherever_that_is_in_it(instance: Instance) -> None:
    ids, document = await things(instance), instance.host.app.openapi()
    walk, tried, wrong = Walk(document["components"]["schemas"]), 0, []
    async with over_the_wire(instance) as api:
        for method, path, operation in operations(document):
            if "requestBody" not in operation:
                continue
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            for attempt in attempts(walk, schema):
                answer = await api.request(method, filled(path, ids), content=raw(attempt), headers=JSON)
                tried += 1
                if answer.status_code >= 500 or (attempt.refused and answer.status_code < 400):
                    wrong.append((method, path, attempt.path, raw(attempt)[:200], answer.status_code))
        assert tried > 500, tried
        assert not wrong, wrong[:20]
        await assert_lists_are_fine(api)


JSON = {"content-type": "application/json"}


def attempts(walk: Walk, schema: dict[str, Any]) -> Iterator[Attempt]:
    yield from walk.attempts(schema, walk.example(schema))


def raw(attempt: Attempt) -> bytes:
    return text_of(attempt.document).encode()


NO_JSON = [
    b"\xff\xfe",
    b'{"name": "\xed\xa0\x80"}',
    b"[" * 200_000,
    b"9" * 100_000,
    b"\0",
    b"{",
    b'"\\ud800"',
]


async def test_a_body_that_is_no_json_is_refused(instance: Instance) -> None:
    ids, document = await things(instance), instance.host.app.openapi()
    for body in NO_JSON:
        async with over_the_wire(instance) as api:
            for method, path, operation in operations(document):
                if "requestBody" in operation:
                    answer = await api.request(method, filled(path, ids), content=body, headers=JSON)
                    assert 400 <= answer.status_code < 500, (method, path, answer.text)


@pytest.mark.slow
async def test_a_query_that_must_not_be_taken_is_refused(instance: Instance) -> None:
    ids, document = await things(instance), instance.host.app.openapi()
    wrong, tried = [], 0
    async with over_the_wire(instance) as api:
        for method, path, operation in operations(document):
            for parameter in [one for one in operation.get("parameters", ()) if one["in"] == "query"]:
                for word in WORDS:
                    url = f"{filled(path, ids)}?{parameter['name']}={quoted(word)}"
                    answer = await api.request(method, url)
                    tried += 1
                    must = "\0" in word or answer.status_code == 404
                    if answer.status_code >= 500 or (must and answer.status_code < 400):
                        wrong.append((method, url[:200], answer.status_code))
    assert tried > 100
    assert not wrong, wrong


@pytest.mark.slow
async def test_a_path_that_must_not_be_taken_is_refused(instance: Instance) -> None:
    ids, document = await things(instance), instance.host.app.openapi()
    wrong, tried = [], 0
    async with over_the_wire(instance) as api:
        for method, path, operation in operations(document):
            for parameter in [one for one in operation.get("parameters", ()) if one["in"] == "path"]:
                for word in WORDS:
                    url = filled(path, ids, **{parameter["name"]: quoted(word)})
                    answer = await api.request(method, url)
                    tried += 1
                    if not 400 <= answer.status_code < 500:
                        wrong.append((method, url[:200], answer.status_code))
    assert tried > 100
    assert not wrong, wrong


async def test_a_header_that_must_not_be_taken_is_no_fault(instance: Instance) -> None:
    ids, document = await things(instance), instance.host.app.openapi()
    wrong = []
    async with over_the_wire(instance) as api:
        for method, path, operation in operations(document):
            wanted = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "header"]
            # What the host itself looks at is the same for every route.
            always = ["authorization", "content-type", "accept"] if path == CHECKS else []
            for name in [*wanted, *always]:
                for value in HEADERS:
                    try:
                        answer = await api.request(
                            method, filled(path, ids), headers=[(name.encode(), value)], content=b"{}"
                        )
                    except httpx.RemoteProtocolError:
                        continue  # not even HTTP: the server has closed the connection
                    if answer.status_code >= 500:
                        wrong.append((method, path, name, value, answer.status_code))
    assert not wrong, wrong


def test_the_walk_leaves_no_route_out(instance: Instance) -> None:
    described = {(method, path) for method, path, _ in operations(instance.host.app.openapi())}
    for route in instance.host.app.routes:
        if isinstance(route, APIRoute) and not route.include_in_schema:
            dependant = route.dependant
            taken = [
                dependant.path_params,
                dependant.query_params,
                dependant.header_params,
                dependant.body_params,
            ]
            assert not any(taken), f"{route.path} takes something and is not described"
        elif isinstance(route, APIRoute):
            assert {(method, route.path) for method in route.methods or ()} <= described


async def assert_lists_are_fine(api: httpx.AsyncClient) -> None:
    for path in (
        CHECKS,
        SATELLITES,
        RUNS,
        "/api/host/tokens",
        "/api/host/events",
        "/api/host/jobs",
        "/api/host/jobs/timetables",
        "/api/secrets/secrets",
        "/readyz",
    ):
        answer = await api.get(path)
        assert answer.status_code == 200, (path, answer.text)
