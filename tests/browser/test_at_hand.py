"""What a person needs is at hand: the pages on a phone, and what they were writing when their session ended."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Route
from ringfence.host import Host
from ringfence.testing import served
from sqlalchemy import text

from tests.browser.opening import DESK, PHONE, admin_token, browsing, opened
from tests.browser.tried import TriedPlugin
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]


async def test_on_a_phone_a_button_opens_the_navigation_without_any_script(host: Host) -> None:
    async with (
        served(host) as url,
        opened(url, admin_token(host), viewport=PHONE, java_script_enabled=False) as page,
    ):
        assert not await page.is_visible("nav")
        await page.click("text=Menu")
        await page.click("nav >> text=Plugins")
        await page.wait_for_url(f"{url}/plugins")
        assert not await page.is_visible("nav")
        await page.set_viewport_size(DESK)  # type: ignore[arg-type]
        assert await page.is_visible("nav >> text=Plugins")
        assert not await page.is_visible("text=Menu")


async def test_on_a_phone_each_value_of_a_table_stands_beside_its_column_and_it_is_still_a_table(
    host: Host,
) -> None:
    async with served(host) as url, opened(url, admin_token(host), viewport=PHONE) as page:
        await page.goto(f"{url}/plugins")
        cell = page.locator("tbody td").first
        beside = "cell => getComputedStyle(cell, '::before').content"
        assert "Version" in await cell.evaluate(beside)
        tree = (await (await page.context.new_cdp_session(page)).send("Accessibility.getFullAXTree"))["nodes"]
        said = {
            (one["role"]["value"], one.get("name", {}).get("value")) for one in tree if not one["ignored"]
        }
        assert ("columnheader", "Version") in said
        assert {"table", "rowgroup", "row", "columnheader", "rowheader", "cell"} <= {role for role, _ in said}
        # The words beside a value are not read aloud a second time.
        assert all("Version" not in str(name) for role, name in said if role == "cell")
        await page.set_viewport_size(DESK)  # type: ignore[arg-type]
        assert await cell.evaluate(beside) == "none"


async def test_a_time_is_told_as_how_long_ago_and_exactly_in_the_own_zone_where_somebody_points(
    host: Host,
) -> None:
    async with served(host) as url, opened(url, admin_token(host), timezone_id="Asia/Tokyo") as page:
        await page.goto(f"{url}/sessions")
        time = page.locator("main time").first
        assert re.fullmatch(r"now|\d+ s ago", await time.inner_text())
        await time.hover()
        assert "GMT+9" in str(await time.get_attribute("title"))


async def test_a_page_is_first_seen_as_dark_as_somebody_has_chosen(host: Host) -> None:
    async with served(host) as url, opened(url, admin_token(host), color_scheme="light") as page:
        await page.goto(url)
        await page.click("text=Light or dark")
        styled = asyncio.Event()
        page.on("requestfinished", lambda request: styled.set() if ".css" in request.url else None)

        async def after_the_style(route: Route) -> None:
            await styled.wait()
            await route.continue_()

        # With a route, nothing comes from the cache.
        await page.route("**/*.js", after_the_style)
        await page.add_init_script(
            """new MutationObserver(() => {
                if (document.documentElement?.dataset.theme) globalThis.themed ??= performance.now();
            }).observe(document, { attributes: true, childList: true, subtree: true });"""
        )
        await page.goto(f"{url}/plugins")
        seen = await page.evaluate(
            """new Promise((done) => new PerformanceObserver((list) => done(list.getEntries()[0].startTime))
                .observe({ type: "paint", buffered: true }))"""
        )
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert await page.evaluate("themed") <= seen


async def test_what_is_being_written_stays_when_the_session_ends(host: Host) -> None:
    # What the page asks for once the session has ended is refused, which the browser notes.
    async with served(host) as url, browsing() as browser:
        page = await browser.new_page()
        page.set_default_timeout(60_000)
        await page.goto(f"{url}/sign-in?to=/written")
        await page.fill("#token", admin_token(host))
        async with page.expect_response(lambda answer: "/live?" in answer.url):
            await page.press("#token", "Enter")
        await page.locator("#field-text").fill("precious")
        async with host.database.sessions.begin() as session:
            await session.execute(text("DELETE FROM browser_sessions"))
        await page.locator(".ended").wait_for()
        assert page.url == f"{url}/written"
        assert await page.locator("#field-text").input_value() == "precious"


async def test_going_back_to_the_answer_to_a_form_sends_nothing_again(host: Host, tried: TriedPlugin) -> None:
    async with served(host) as url, opened(url, admin_token(host), expected="status of 422") as page:

        async def send() -> None:
            await page.fill("#field-text", "not yet")
            await page.click("button.main")
            await page.locator("#words", has_text="It is not written.").wait_for()
            assert page.url == f"{url}/written?x=1"

        await page.goto(f"{url}/written?x=1")
        await send()
        await page.reload()
        await page.locator("#words", has_text="some words").wait_for()
        await send()
        await page.goto(f"{url}/tried")
        await page.go_back()
        await page.locator("#field-text").wait_for()
        assert page.url == f"{url}/written?x=1"
        assert len(tried.sent) == 2
