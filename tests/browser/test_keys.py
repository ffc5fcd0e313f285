"""The keyboard alone leads everywhere."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Route
from ringfence.host import Host
from ringfence.testing import served

from tests.browser.opening import admin_token, opened, shutting_out
from tests.browser.tried import TriedPlugin
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]


async def test_the_palette_leads_to_pages_and_to_what_the_host_finds(host: Host) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        await page.keyboard.press("Control+k")
        await page.keyboard.type("plug")
        assert await shutting_out(page) == []
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{url}/plugins")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "content"
        await page.keyboard.press("?")
        assert await page.is_visible("#keys")
        await page.keyboard.press("Escape")
        await page.keyboard.press("Control+k")
        await page.keyboard.type("<i>zzz")
        line = page.locator("#palette [aria-selected]")
        await line.filter(has_text="<i>zzz <b>found</b>").wait_for()
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{url}/tried")


async def test_the_palette_asks_one_question_at_a_time_and_the_newest_words_last(host: Host) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        asked: list[str] = []
        go_on = asyncio.Event()

        async def slowly(route: Route) -> None:
            asked.append(route.request.url.partition("q=")[2])
            await go_on.wait()
            await route.continue_()

        await page.route("**/find?*", slowly)
        await page.keyboard.press("Control+k")
        async with page.expect_request("**/find?q=z"):
            await page.keyboard.type("z")
        await page.keyboard.type("zz", delay=200)
        assert asked == ["z"]
        go_on.set()
        await page.locator("#palette [data-found]", has_text="zzz").wait_for()
        assert asked == ["z", "zzz"]


async def test_a_command_asks_and_does_only_what_was_answered_with_yes(
    host: Host, tried: TriedPlugin
) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        for key in ("w", "n"):
            await page.keyboard.press(key)
        await page.locator("[data-question] p", has_text="Write <nothing>?").wait_for()
        await page.keyboard.press("Enter")
        await page.locator("#palette").wait_for(state="hidden")
        assert tried.sent == []
        await page.keyboard.press("Control+k")
        await page.keyboard.type("write <noth")
        await page.keyboard.press("Enter")
        await page.locator("[data-yes]").focus()
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{url}/written")
        assert await page.locator(".said").inner_text() == "It is written."
        assert tried.sent == [{"text": "nothing"}]


async def test_an_editor_takes_the_tab_key_and_gives_it_back_after_escape(host: Host) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        await page.goto(f"{url}/written")
        await page.locator("[data-editor=python] .cm-content").click()
        await page.keyboard.press("Tab")
        inside = "document.activeElement.matches('[data-editor=python]')"
        assert await page.evaluate(inside)
        await page.keyboard.press("Escape")
        await page.keyboard.press("Tab")
        assert not await page.evaluate(inside)
