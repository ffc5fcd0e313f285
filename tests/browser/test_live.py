"""Open pages follow what happens, also where their connection is cut, and where the instance is that they came from."""

from __future__ import annotations

import pytest
from ringfence.host import Host
from ringfence.testing import RunHost, served

from tests.browser.opening import admin_token, opened
from tests.browser.proxy import proxy
from tests.browser.tried import TriedPlugin
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]
SHOWN = "words => document.querySelector('#words')?.innerText === words"


async def test_an_open_page_follows_what_happens_also_once_it_was_cut_off(
    host: Host, tried: TriedPlugin
) -> None:
    async with (
        served(host) as url,
        proxy(url) as between,
        opened(between.url, admin_token(host), cut=True) as page,
    ):
        await page.goto(f"{between.url}/tried")
        await page.evaluate("document.querySelector('details').open = true")
        await tried.happen("one")
        await page.wait_for_function(SHOWN, arg="one")
        between.to = "http://127.0.0.1:1"
        between.cut()
        await page.wait_for_selector(".lost", state="visible")
        await tried.happen("two")
        between.to = url
        await page.wait_for_function(SHOWN, arg="two")
        await page.wait_for_selector(".lost", state="hidden")
        # What somebody has opened stays open, and a hidden tab that comes back has missed nothing.
        assert await page.evaluate("document.querySelector('details').open")
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
        await tried.happen("three")
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow'))")
        await page.wait_for_function(SHOWN, arg="three")


async def test_what_somebody_writes_is_not_taken_from_under_their_hands(
    host: Host, tried: TriedPlugin
) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        await page.goto(f"{url}/written")
        editor = page.locator("[data-editor=yaml] .cm-content")
        await editor.click()
        await page.keyboard.type("more ")
        await tried.happen("one")
        async with opened(url, admin_token(host)) as other:
            await other.goto(f"{url}/written")
            await tried.happen("two")
            await other.wait_for_function(SHOWN, arg="two")
        assert "more" in await editor.inner_text()
        assert await page.inner_text("#words") == "some words"
        await page.click("button.main")
        await page.wait_for_function(SHOWN, arg="two")
        assert "more" in tried.sent[0]["plan"]


async def test_a_page_goes_on_with_another_instance_when_its_own_is_killed(run_host: RunHost) -> None:
    plugins = TriedPlugin(), TriedPlugin()
    first, second = [await run_host(plugins=[plugin], records_access=True) for plugin in plugins]
    async with (
        served(second) as other,
        served(first) as url,
        proxy(url) as between,
        opened(between.url, admin_token(first), cut=True) as page,
    ):
        await page.goto(f"{between.url}/tried")
        await plugins[0].happen("one")
        await page.wait_for_function(SHOWN, arg="one")
        between.to = other
        between.cut()
        await plugins[1].happen("two")
        await page.wait_for_function(SHOWN, arg="two")
        await page.reload()
        assert await page.inner_text("#words") == "two"
