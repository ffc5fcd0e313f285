"""What holds for every page that there is, of the host and of all built-in plugins."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Route

from tests.browser.filling import Filled
from tests.browser.opening import DESK, PHONE, shutting_out, use_theme
from tests.browser.walking import Walk
from tests.browser.worlds import World
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
WIDE_TABLES = """[...document.querySelectorAll(".table")].filter((one) => one.scrollWidth > one.clientWidth
    || [...one.querySelectorAll("td, th")].some((cell) => cell.getBoundingClientRect().right > innerWidth))
    .map((one) => one.ariaLabel)"""
MARKUP = "document.querySelectorAll('main :is(script, style, img, iframe, object, embed, [onerror], [style])').length"


async def test_every_page_is_whole_for_everybody_and_fits_a_phone(full: World, filled: Filled) -> None:
    found: list[str] = []
    async with full.opened(viewport=DESK) as page:
        walk = Walk(full.host, full.url, find=["silence img"])
        async for path in walk.pages(page):
            # What depends on what a page shows is looked for on each, and the rest on the first of its kind.
            only = None if walk.is_first(path) else "color-contrast"
            await use_theme(page, "light")
            found += [f"{path}: {one}" for one in await shutting_out(page, only=only)]
            await use_theme(page, "dark")
            found += [f"{path} (dark): {one}" for one in await shutting_out(page, only="color-contrast")]
            if await page.evaluate(MARKUP):
                found.append(f"{path}: words of others are markup")
            await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
            width = await page.evaluate("document.documentElement.scrollWidth")
            if width > PHONE["width"]:
                found.append(f"{path}: {width} px wide on a phone")
            if wide := await page.evaluate(WIDE_TABLES):
                found.append(f"{path}: on a phone, the table {', '.join(wide)} is wider than the page")
            await page.set_viewport_size(DESK)  # type: ignore[arg-type]
        assert found == []
        assert walk.unreached == []


async def test_every_page_can_be_read_without_scripts(full: World, filled: Filled) -> None:
    async with full.opened(java_script_enabled=False) as page:
        async for path in Walk(full.host, full.url).pages(page):
            assert await page.locator("main h1").is_visible(), path
            assert await page.locator("nav a[href='/']").is_visible(), path


async def test_signing_out_ends_it_and_leads_to_signing_in(full: World) -> None:
    async with full.opened() as page:
        await page.goto(f"{full.url}/events")

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
        await page.wait_for_url(f"{full.url}/sign-in")
        await page.goto(f"{full.url}/plugins")
        assert page.url == f"{full.url}/sign-in?to=%2Fplugins"
