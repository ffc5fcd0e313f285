"""The pages in a browser: nothing is refused by their own policy, nothing is asked of elsewhere, and they stay live."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, async_playwright
from ringfence.host import Host
from ringfence.testing import RunHost, client, installed, served

from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]
CHROMIUM = shutil.which("chromium")
PATHS = ("/", "/plugins", "/events", "/tokens", "/sessions", "/jobs")


@asynccontextmanager
async def opened(host: Host, url: str) -> AsyncIterator[Page]:
    """A browser that is signed in; whatever it complains of, or asks of elsewhere, fails the test."""
    assert CHROMIUM is not None
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await (await browser.new_context()).new_page()
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(url) else complaints.append(asked.url))
        await page.goto(f"{url}/sign-in")
        await page.fill("#token", host.data_dir.admin_token_path.read_text().strip())
        await page.press("#token", "Enter")
        await page.wait_for_url(f"{url}/")
        yield page
        await browser.close()
    assert complaints == []


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=installed("script-packages"), records_access=True)


async def test_every_page_fits_a_phone_and_signing_out_ends_it(host: Host) -> None:
    async with served(host) as url, opened(host, url) as page:
        for path in PATHS:
            for width in (360, 1280):
                await page.set_viewport_size({"width": width, "height": 700})
                await page.goto(url + path)
                assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
        await page.click("text=Sign out")
        await page.wait_for_url(f"{url}/sign-in")
        await page.goto(f"{url}/plugins")
        assert page.url == f"{url}/sign-in?to=%2Fplugins"


async def test_an_open_page_is_live_also_after_its_connection_was_cut(host: Host) -> None:
    async with served(host) as url, opened(host, url) as page, client(host) as admin:
        await page.goto(f"{url}/events")
        for name in ("one", "two"):
            body = {"name": name, "rules": ["host.plugin.read"]}
            newest = page.locator("tbody td").first
            before = await newest.inner_text()
            if name == "two":
                # Away as a tab in the background is, which lets go of its connection; then it comes back.
                await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
            assert (await admin.post("/api/host/tokens", json=body)).status_code == 201
            if name == "two":
                await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow'))")
            await page.wait_for_function(
                "was => document.querySelector('tbody td').innerText !== was", arg=before
            )


async def test_the_keyboard_alone_leads_everywhere(host: Host) -> None:
    async with served(host) as url, opened(host, url) as page:
        await page.keyboard.press("Control+k")
        await page.keyboard.type("plug")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{url}/plugins")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "content"
        await page.keyboard.press("?")
        assert await page.is_visible("#keys")
