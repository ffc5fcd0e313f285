"""Reaching a running instance as a client would: in this process, or over a socket."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from fastapi import FastAPI

from ringfence.access import Principal
from ringfence.host import Host
from ringfence.web.server import listen, serving, url_of

PATIENCE_SECONDS = 90.0
"""How long a test waits for what must come, by default: only one that fails waits so long."""

T = TypeVar("T")
_PAGES = "http://127.0.0.1"
"""An address is always a name under which a browser may reach the pages."""


@asynccontextmanager
async def client(
    host: Host, *, rules: Collection[str] | None = None, name: str | None = None, token: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client on the instance's application, in this process: the administrator's, unless told otherwise.

    `rules` are the access rules that it holds, and no others (none: `rules=()`); it is a token of its own, and its
    principal is called `name`.
    `token` is one that there is already.
    """
    if rules is not None:
        issuer = Principal("test", frozenset(host.access.rules))
        _, token = await host.access.create(name or f"tester-{uuid.uuid4().hex[:8]}", rules, by=issuer)
    secret = token or host.data_dir.admin_token_path.read_text().strip()
    async with in_process_client(host.app, secret) as http:
        yield http


def in_process_client(app: FastAPI, secret: str) -> httpx.AsyncClient:
    """A client on an application, with a bearer token. What the application raises unhandled, the request raises."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://ringfence.test",
        headers={"Authorization": f"Bearer {secret}"},
    )


@asynccontextmanager
async def signed_in(host: Host, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a screen, signed in with the token of `client`: it keeps cookies, and gets pages."""
    transport = httpx.ASGITransport(app=host.app)
    secret = client.headers["Authorization"].partition(" ")[2]
    headers = {"Origin": _PAGES, "Accept": "text/html"}
    async with httpx.AsyncClient(transport=transport, base_url=_PAGES, headers=headers) as browser:
        answer = await browser.post("/sign-in", data={"token": secret})
        if answer.status_code != 303:
            raise AssertionError(f"signing in was answered with {answer.status_code}")
        yield browser


@asynccontextmanager
async def served(host: Host) -> AsyncIterator[str]:
    """Serve a running instance on a free port of this machine; yields its URL."""
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            yield url_of(listener)


async def eventually(check: Callable[[], Awaitable[T]], *, seconds: float = PATIENCE_SECONDS) -> T:
    """What `check` answers, once that is true. Raises `AssertionError` with its last answer when the time is up."""
    deadline = time.monotonic() + seconds
    while not (answer := await check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {seconds:g} s")
        await asyncio.sleep(0.01)
    return answer
