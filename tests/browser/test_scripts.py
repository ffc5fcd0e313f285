"""What smaller scripts add: times in the viewer's zone, copying, output as it is written, looking again, waiting."""

from __future__ import annotations

import pytest
from ringfence.host import Host
from ringfence.testing import served

from tests.browser.opening import admin_token, opened
from tests.browser.tried import TriedPlugin
from tests.primitives import requires
from tests.waiting import until

pytestmark = [pytest.mark.slow, requires("chromium")]
TOKYO = "Asia/Tokyo"
"""Nine hours ahead of UTC all the year."""


async def test_times_are_entered_and_shown_in_the_zone_of_the_viewer(host: Host) -> None:
    async with served(host) as url, opened(url, admin_token(host), timezone_id=TOKYO) as page:
        await page.goto(f"{url}/events")
        assert await page.locator("[data-zone]").all_inner_texts() == ["(your time)"] * 2
        shown = page.locator("tbody time").first
        await shown.hover()
        assert "GMT+9" in (await shown.get_attribute("title") or "")
        for name, others, events in (("since", "until", 1), ("until", "since", 0)):
            await page.fill(f"[name={name}]", "2026-01-01T09:00")
            await page.fill(f"[name={others}]", "")
            await page.locator("main .filter button").click()
            await page.wait_for_url(f"**{name}=2026-01-01T00%3A00%3A00.000Z**")
            assert await page.input_value(f"[name={name}]") == "2026-01-01T09:00"
            assert min(1, await page.locator("tbody tr").count()) == events


async def test_a_text_is_copied_or_else_selected(host: Host, tried: TriedPlugin) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.goto(f"{url}/copied")
        await page.click("[data-copy]")
        await page.get_by_role("button", name="Copied").wait_for()
        assert await page.evaluate("navigator.clipboard.readText()") == tried.words
        await page.reload()
        await page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
        await page.click("[data-copy]")
        await page.get_by_role("button", name="Selected").wait_for()
        assert await page.evaluate("getSelection().toString()") == tried.words


async def test_output_goes_on_where_it_was_cut_and_the_page_looks_again_while_it_says_so(
    host: Host, tried: TriedPlugin
) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        await page.goto(f"{url}/running")
        await page.locator("[data-said]", has_text="It is over.").wait_for()
        assert await page.inner_text("#output") == "one <b>two</b> three"
        assert await page.locator("#output .stderr").inner_text() == "<b>two</b> "
        assert tried.followed == ["", "2"]
        before = tried.looked
        await page.locator("#looked", has_text=f"Looked at {before + 2} times").wait_for()


async def test_a_list_that_grows_at_its_top_waits_while_somebody_reads_further_down(
    host: Host, tried: TriedPlugin
) -> None:
    for _ in range(60):
        await tried.happen("x")
    async with (
        served(host) as url,
        opened(url, admin_token(host)) as page,
        opened(url, admin_token(host)) as other,
    ):
        renewed: list[str] = []
        begun: list[str] = []
        page.on("request", lambda asked: begun.append(asked.url) if "fragment=" in asked.url else None)
        page.on(
            "requestfinished", lambda asked: renewed.append(asked.url) if "fragment=" in asked.url else None
        )
        for one in (page, other):
            await one.goto(f"{url}/events?hook=tried")
        await page.evaluate("scrollTo(0, 600)")
        # What was asked for before that comes all the same.
        await until(lambda: len(renewed) == len(begun), "the page has what it has asked for")
        await page.evaluate("new Promise(shown => requestAnimationFrame(() => requestAnimationFrame(shown)))")
        newest = await page.locator("tbody td.number").first.inner_text()
        newer = f"tbody tr:first-child td.number a:not(:text-is('{newest}'))"
        before = len(begun)
        await tried.happen("x")
        await other.locator(newer).wait_for()
        assert len(begun) == before
        assert await page.locator(newer).count() == 0
        await page.evaluate("scrollTo(0, 0)")
        await page.locator(newer).wait_for()
