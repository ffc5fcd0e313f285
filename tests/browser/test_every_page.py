"""What holds for every page that there is, of the host and of all built-in plugins."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Route
from ringfence.host import Host
from ringfence.testing import served

from tests.browser.opening import admin_token, opened, shutting_out, use_theme
from tests.browser.walking import Walk
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
NOT_REACHED = {
    "/checks/{id}/places",
    "/checks/{id}/silence",
    "/notifications/channels/{name}",
    "/packages/sets/{name}",
    "/satellites/{id}/runs/{run}",
}
"""Pages that nothing on a host filled by `fill` leads to; a new page is not one of them."""
MARKUP = "document.querySelectorAll('main :is(script, style, img, iframe, object, embed, [onerror], [style])').length"


async def test_every_page_is_whole_for_everybody_and_fits_a_phone(full_host: Host) -> None:
    found: list[str] = []
    async with served(full_host) as url, opened(url, admin_token(full_host), viewport=DESK) as page:
        walk = Walk(full_host, url)
        async for path in walk.pages(page):
            for theme in ("light", "dark"):
                await use_theme(page, theme)
                found += [f"{path} ({theme}): {one}" for one in await shutting_out(page)]
            if await page.evaluate(MARKUP):
                found.append(f"{path}: words of others are markup")
            await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
            width = await page.evaluate("document.documentElement.scrollWidth")
            if width > PHONE["width"]:
                found.append(f"{path}: {width} px wide on a phone")
            await page.set_viewport_size(DESK)  # type: ignore[arg-type]
        assert found == []
        assert set(walk.unreached) == NOT_REACHED


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
