"""Two browsers change the policy at once: the merge is shown, nothing is lost; then its history, verified, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from ringfence.testing import TestPostgres, installed

from tests.browser.worlds import World, world_of
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, browser: Browser
) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("policy")
    async with world_of(postgres, directory, browser, installed("script-packages")) as one:
        yield one


async def enter(page: Page, **fields: str) -> None:
    """Fill in settings by their paths: `resources__cpuSeconds` is `resources.cpuSeconds`."""
    for name, value in fields.items():
        one = page.locator(f'#policy-form [name="{name.replace("__", ".")}"]')
        if await one.evaluate("one => one.localName") == "select":
            await one.select_option(value)
        else:
            await one.fill(value)


async def save(page: Page) -> None:
    await page.get_by_role("button", name="Save", exact=True).click()
    await page.wait_for_load_state()


async def test_two_browsers_change_the_policy_at_once_and_nothing_is_lost(world: World) -> None:
    # The answer to who was slower is an error to the browser, too: 409.
    async with world.opened(expected="status of 409") as mine, world.opened() as theirs:
        for page in (mine, theirs):
            await page.goto(f"{world.url}/policy")
        await enter(mine, resources__cpuSeconds="20", resources__maxProcesses="50", reason="mine")
        await enter(theirs, resources__cpuSeconds="30", resources__maxOpenFiles="100", reason="theirs")
        await save(theirs)
        assert "now at revision 1" in await theirs.inner_text(".said")

        # What is being written is not taken away by the other's change, which the page hears of.
        told = mine.locator("#foreseen", has_text="Somebody has changed the policy since you began")
        await mine.locator('[name="reason"]').press("End")
        await mine.locator('[name="reason"]').press_sequentially("!")
        await told.wait_for()
        assert await mine.input_value('[name="resources.maxProcesses"]') == "50"

        await save(mine)
        assert "Somebody else has changed the policy" in await mine.inner_text("[role=alert]")
        merged = await mine.inner_text("main")
        assert "theirs" in merged
        assert "Yours: Processes" in merged
        assert "resources.maxOpenFiles" in merged
        assert await mine.locator("fieldset legend", has_text="resources.cpuSeconds").count() == 1
        await mine.get_by_role("button", name="Merge").click()
        assert await mine.locator(":invalid").count(), "who has not chosen is asked to"
        await mine.check('[name="choose.resources.cpuSeconds"][value="mine"]')
        await mine.get_by_role("button", name="Merge").click()
        await mine.locator("#policy-form").wait_for()
        assert await mine.input_value('[name="resources.cpuSeconds"]') == "20"
        assert await mine.input_value('[name="resources.maxProcesses"]') == "50"
        assert await mine.input_value('[name="resources.maxOpenFiles"]') == "100"
        assert await mine.input_value('[name="reason"]') == "mine!"
        await save(mine)
        assert "now at revision 2" in await mine.inner_text(".said")
        now = (await world.send("GET", "/api/script-packages/sandbox-policy"))["policy"]["resources"]
        assert (now["cpuSeconds"], now["maxProcesses"], now["maxOpenFiles"]) == (20, 50, 100)

        # The other page, on which nothing is being written, follows by itself.
        await theirs.locator("main", has_text="Revision 2, written").wait_for()


async def test_the_history_says_who_changed_what_and_is_verified_and_gone_back_in(world: World) -> None:
    async with world.opened(expected="status of 422") as page:
        await page.goto(f"{world.url}/policy/history")
        rows = page.locator("main tbody tr")
        newest = await rows.nth(0).inner_text()
        assert "mine!" in newest
        assert "resources.cpuSeconds" in newest
        assert "theirs" in await rows.nth(1).inner_text()
        await page.get_by_role("button", name="Verify now").click()
        await page.locator(".state.good", has_text="verified").wait_for()
        noted = await page.inner_text("code.secret")
        await page.fill("#field-anchor", noted)
        await page.get_by_role("button", name="Verify", exact=True).click()
        await page.locator("main", has_text="revisions are unchanged").wait_for()
        await page.fill("#field-anchor", "nonsense")
        await page.get_by_role("button", name="Verify", exact=True).click()
        await page.locator("#error-anchor").wait_for()

        await page.goto(f"{world.url}/policy/revert?to=0")
        await page.fill("#field-reason", "back to the beginning")
        sure = page.locator("#field-sure")
        if await sure.count():
            await sure.check()
        await page.get_by_role("button", name="Revert", exact=True).click()
        await page.wait_for_url(f"{world.url}/policy/history")
        assert "as revision 3" in await page.inner_text(".said")
        assert await rows.count() == 3
        await page.get_by_role("button", name="Verify now").click()
        await page.locator("main", has_text="All 3 revisions").wait_for()
