"""A browser without a screen: it keeps cookies, and says where its requests come from."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from ringfence.access import Principal
from ringfence.host import Host
from ringfence.pages import asking
from ringfence.testing import PATIENCE_SECONDS

HERE = "http://127.0.0.1:8484"
HTML = {"accept": "text/html"}
Browse = Callable[..., Awaitable["Browser"]]


class Browser:
    """One browser at one host; signed in once `sign_in` was called."""

    def __init__(self, host: Host, *, base: str = HERE, peer: str = "192.0.2.1") -> None:
        transport = httpx.ASGITransport(app=host.app, client=(peer, 1234))
        self.http = httpx.AsyncClient(transport=transport, base_url=base, headers=HTML)
        self.origin = base

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        """Send a form as our own page would."""
        return await self.http.post(path, data=fields or {}, headers={"origin": self.origin, **headers})

    async def sign_in(self, token: str) -> httpx.Response:
        return await self.post("/sign-in", {"token": token})

    async def csrf(self) -> str:
        found = re.search('<meta name="csrf" content="([^"]+)">', (await self.get("/")).text)
        assert found is not None
        return found[1]

    async def act(self, path: str, **fields: str) -> httpx.Response:
        """Send a form of the session that this browser has."""
        return await self.post(path, {"csrf": await self.csrf(), **fields})


async def token_of(host: Host, name: str, rules: Collection[str]) -> str:
    issuer = Principal("test", frozenset(host.access.rules))
    return (await host.access.create(name, rules, by=issuer))[1]


def admin_token(host: Host) -> str:
    return host.data_dir.admin_token_path.read_text().strip()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What plugins say of themselves is waited for as long as the machine takes."""
    monkeypatch.setattr(asking, "SECONDS", PATIENCE_SECONDS)


@pytest.fixture
async def browse() -> AsyncIterator[Browse]:
    """Opens a browser at a host: signed in as the administrator, with a token that holds `rules`, or not at all."""
    async with AsyncExitStack() as stack:

        async def opened(
            host: Host, *, rules: Collection[str] | None = None, signed_in: bool = True, **more: Any
        ) -> Browser:
            browser = Browser(host, **more)
            await stack.enter_async_context(browser.http)
            if signed_in:
                secret = (
                    admin_token(host) if rules is None else await token_of(host, f"t{id(browser)}", rules)
                )
                assert (await browser.sign_in(secret)).status_code == 303
            return browser

        yield opened
