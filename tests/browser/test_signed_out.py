"""A page that is cut off because its session has ended says so, and leads back to itself."""

from __future__ import annotations

import pytest
from playwright.async_api import Page
from ringfence.host import Host
from ringfence.testing import served
from sqlalchemy import text

from tests.browser.opening import admin_token, browsing
from tests.browser.proxy import Proxy, proxy
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]


async def cut_without_session(host: Host, between: Proxy, page: Page) -> None:
    """Cut the connections of `page`, and let it connect again once its session has ended."""
    to, between.to = between.to, "http://127.0.0.1:1"
    between.cut()
    async with host.database.sessions.begin() as session:
        await session.execute(text("DELETE FROM browser_sessions"))
    await page.wait_for_selector(".lost:not(.ended)", state="visible")
    between.to = to


async def test_a_page_that_may_not_connect_again_says_that_nobody_is_signed_in(host: Host) -> None:
    async with served(host) as url, proxy(url) as between, browsing() as browser:
        page = await browser.new_page()
        await page.goto(f"{between.url}/sign-in?to=/tried")
        await page.fill("#token", admin_token(host))
        async with page.expect_response(lambda answer: "/live?" in answer.url):
            await page.press("#token", "Enter")
        await cut_without_session(host, between, page)
        await page.wait_for_url(f"{between.url}/sign-in?ended=yes&to=%2Ftried")
        assert "You are signed out" in await page.inner_text("main")
        await page.fill("#token", admin_token(host))
        await page.press("#token", "Enter")
        await page.wait_for_url(f"{between.url}/tried")

        await page.goto(f"{between.url}/written")
        await page.locator("#field-text").fill("precious")
        await cut_without_session(host, between, page)
        await page.locator(".ended").wait_for()
        assert await page.locator("#field-text").input_value() == "precious"
        assert await page.is_hidden(".lost:not(.ended)")
        assert await page.get_attribute(".ended a", "href") == "/sign-in?ended=yes&to=%2Fwritten"


async def test_a_form_that_is_as_it_was_holds_nothing_up(host: Host) -> None:
    async with served(host) as url, browsing() as browser:
        page = await browser.new_page()
        await page.goto(f"{url}/sign-in?to=/written")
        await page.fill("#token", admin_token(host))
        await page.press("#token", "Enter")
        field = page.locator("#field-text")
        before = await field.input_value()
        await field.fill("precious")
        assert await page.locator("form[data-written]").count() == 1
        await field.fill(before)
        assert await page.locator("form[data-written]").count() == 0
