"""A host that all tests of a file share, served, with a browser at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Browser, Page
from ringfence.access import Principal
from ringfence.host import Host, serve
from ringfence.plugins.discovery import Plugin
from ringfence.settings import HostSettings
from ringfence.testing import TestPostgres

from tests.browser.opening import admin_token, opened


@dataclass(frozen=True)
class World:
    """The host, where it is, and an administrator's client of its API."""

    host: Host
    url: str
    browser: Browser
    api: httpx.AsyncClient

    @property
    def admin(self) -> str:
        return admin_token(self.host)

    def opened(self, token: str | None = None, **options: Any) -> AbstractAsyncContextManager[Page]:
        """A page that is signed in, as the administrator unless with another token."""
        return opened(self.url, token or self.admin, browser=self.browser, **options)

    async def token(self, name: str, rules: Collection[str]) -> str:
        """A token of its own that holds `rules`."""
        issuer = Principal("test", frozenset(self.host.access.rules))
        return (await self.host.access.create(name, rules, by=issuer))[1]

    async def send(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API for something as the administrator; what it answers."""
        answer = await self.api.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


@asynccontextmanager
async def world_of(
    postgres: TestPostgres, directory: Path, browser: Browser, plugins: Sequence[Plugin], **settings: Any
) -> AsyncIterator[World]:
    """A host with these plugins on a database of its own."""
    database = await postgres.lend(())
    try:
        values = HostSettings(data_dir=directory / "instance", port=0, database_url=database, **settings)
        async with serve(values, plugins=plugins) as (host, url):
            headers = {"authorization": f"Bearer {admin_token(host)}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=90) as api:
                yield World(host, url, browser, api)
    finally:
        await postgres.give_back(database)
