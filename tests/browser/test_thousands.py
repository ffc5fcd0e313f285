"""5,000 satellites and 2,000 checks: each page shows a part that is bounded, leads to the end, and stays live."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from ringfence.pages import asking
from ringfence.testing import PATIENCE_SECONDS, TestPostgres, installed
from ringfence_satellite.hooks import SatelliteChanged, satellite_changed, stream_of
from ringfence_satellite.plugin import SatellitePlugin
from sqlalchemy import text

from tests.browser.thousands import SATELLITES, fill_with_thousands
from tests.browser.worlds import World, world_of
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
MOST_ROWS = 51
MOST_BYTES = 250_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, browser: Browser
) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("thousands")
    async with world_of(postgres, directory, browser, installed("health-checks")) as one:
        await fill_with_thousands(one.host)
        yield one


async def rows(page: Page, url: str) -> list[str]:
    """What the rows of a list are called, on a page that is bounded."""
    answer = await page.goto(url)
    assert answer is not None
    assert answer.status == 200, url
    assert len(await answer.body()) < MOST_BYTES, url
    names = await page.locator("main tbody th a").all_inner_texts()
    assert len(names) < MOST_ROWS, url
    return names


async def walked(page: Page, url: str) -> list[str]:
    """All rows of a list, by following its link to the next page to the end."""
    found = await rows(page, url)
    while await page.locator("a[rel=next]").count():
        to = await page.locator("a[rel=next]").get_attribute("href")
        found += await rows(page, url.partition("?")[0] + (to or ""))
    return found


async def test_satellites_are_searched_sorted_and_paged_to_the_end(world: World) -> None:
    async with world.opened() as page:
        base = f"{world.url}/satellites"
        found = await walked(page, f"{base}?q=satellite-04")
        assert found == sorted(found)
        assert len(found) == len(set(found)) == 1000
        by_seen = await rows(page, f"{base}?sort=-seen")
        assert by_seen[0] == "satellite-00001"
        last = await rows(page, f"{base}?sort=-name")
        assert last[0] == f"satellite-{SATELLITES:05}"
        await page.fill("[data-search]", "satellite-04999")
        await page.press("[data-search]", "Enter")
        await page.locator("main tbody th", has_text="satellite-04999").wait_for()
        assert await page.locator("main tbody tr").count() == 1


async def test_checks_are_searched_and_paged_to_the_end_with_the_worst_first(world: World) -> None:
    async with world.opened() as page:
        base = f"{world.url}/checks"
        before = await walked(page, f"{base}?q=check-00&state=unhealthy")
        found = await walked(page, f"{base}?q=check-00")
        # One that has become worse meanwhile stands further up by then, and was seen already.
        assert len(set(found)) == 999
        assert 0 < len(before) < 999 / 4
        assert found[0] in before
        await page.goto(base)
        await page.fill("[data-search]", "check-01999")
        await page.press("[data-search]", "Enter")
        await page.locator("main tbody th", has_text="check-01999").wait_for()
        assert await page.locator("main tbody tr").count() == 1


async def test_the_overview_and_the_palette_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What plugins say of themselves is waited for as long as the machine takes.
    monkeypatch.setattr(asking, "SECONDS", PATIENCE_SECONDS)
    async with world.opened() as page:
        answer = await page.goto(f"{world.url}/")
        assert answer is not None
        assert len(await answer.body()) < MOST_BYTES
        overview = await page.inner_text("main")
        assert re.search("[45],?[09][0-9][0-9] satellites", overview)
        assert "no answer" not in overview
        await page.keyboard.press("Control+k")
        await page.keyboard.type("satellite-0499")
        await page.locator("#palette [data-found]", has_text="satellite-0499").first.wait_for()
        assert await page.locator("#palette [data-found]").count() <= 50


async def test_a_list_stays_live_while_many_change_each_second(world: World) -> None:
    (plugin,) = (one.plugin for one in world.host.plugins if isinstance(one.plugin, SatellitePlugin))
    renamed = text("UPDATE satellite_satellites SET region = :region WHERE name = :name")
    ids = text("SELECT id FROM satellite_satellites ORDER BY name LIMIT 200")
    async with world.host.database.sessions() as session:
        every = list((await session.execute(ids)).scalars())

    async def change() -> None:
        """Hundreds of satellites say something new, each second."""
        while True:
            for id in every:
                fact = SatelliteChanged(
                    satellite_id=id, name="satellite", region="busy", tags=(), offline_after_seconds=45.0
                )
                await plugin._context.emit_hook(
                    satellite_changed, fact, standalone=True, stream=stream_of(id)
                )
                await asyncio.sleep(0.005)

    async with world.opened() as page:
        await page.goto(f"{world.url}/satellites")
        await page.evaluate("window.mine = true")
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url) if "fragment=" in one.url else None)
        changing = asyncio.create_task(change())
        try:
            for region in ("region-first", "region-then"):
                async with world.host.database.sessions.begin() as session:
                    await session.execute(renamed, {"region": region, "name": "satellite-00003"})
                await page.locator("main tbody tr", has_text=region).wait_for()
        finally:
            changing.cancel()
            with suppress(asyncio.CancelledError):
                await changing
        assert await page.evaluate("window.mine"), "it came by itself, and not by loading the page again"
        assert len(asked) >= 2
