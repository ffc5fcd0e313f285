"""A browser at a host: whatever it complains of, or asks of elsewhere, fails the test that has opened it."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, Page, async_playwright
from ringfence.host import Host

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parents[2] / "build/for-tests/axe.min.js"
LOST = re.compile("net::ERR_|ERR_INCOMPLETE|status of 502|status of 503")
"""What a browser notes where a connection was cut on purpose."""


def admin_token(host: Host) -> str:
    return host.data_dir.admin_token_path.read_text().strip()


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a screen."""
    assert CHROMIUM is not None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(url: str, token: str, *, cut: bool = False, **options: Any) -> AsyncIterator[Page]:
    """A page of a browser that is signed in with `token`. With `cut`, connections may be lost meanwhile."""
    complaints: list[str] = []

    def complain(said: str) -> None:
        if not (cut and LOST.search(said)):
            complaints.append(said)

    async with browsing() as browser:
        page = await (await browser.new_context(**options)).new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda said: complain(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("dialog", lambda dialog: complain(f"a dialog: {dialog.message}"))
        page.on("request", lambda asked: None if asked.url.startswith(url) else complain(asked.url))
        await page.goto(f"{url}/sign-in")
        await page.fill("#token", token)
        await page.press("#token", "Enter")
        await page.wait_for_url(f"{url}/")
        yield page
    assert complaints == [], complaints


async def shutting_out(page: Page) -> list[str]:
    """What axe-core finds on a page that keeps somebody from using it: what it calls serious or critical."""
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


async def use_theme(page: Page, theme: Literal["light", "dark"]) -> None:
    """Have it light or dark, and wait until it is shown so."""
    await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    await page.evaluate("new Promise(shown => requestAnimationFrame(() => requestAnimationFrame(shown)))")
