"""What holds for every page that there is, of the host and of all built-in plugins."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Route
from ringfence.host import Host
from ringfence.testing import served

from tests.browser.opening import admin_token, opened
from tests.browser.walking import Walk
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]


async def test_every_page_can_be_read_without_scripts(full_host: Host) -> None:
    async with (
        served(full_host) as url,
        opened(url, admin_token(full_host), java_script_enabled=False) as page,
    ):
        async for path in Walk(full_host, url).pages(page):
            assert await page.locator("main h1").is_visible(), path
            assert await page.locator("nav a[href='/']").is_visible(), path


async def test_signing_out_ends_it_and_leads_to_signing_in(host: Host) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        await page.goto(f"{url}/events")

        cut = asyncio.Event()
        for event in ("requestfailed", "requestfinished"):
            page.on(event, lambda request: cut.set() if "/live?" in request.url else None)

        async def late(route: Route) -> None:
            # The page hears that its session has ended before the browser has the answer to the form.
            answer = await route.fetch(max_redirects=0)
            await cut.wait()
            await route.fulfill(response=answer)

        await page.route("**/sign-out", late)
        await page.click("text=Sign out")
        await page.wait_for_url(f"{url}/sign-in")
        await page.goto(f"{url}/plugins")
        assert page.url == f"{url}/sign-in?to=%2Fplugins"
