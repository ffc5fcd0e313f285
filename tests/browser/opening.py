"""A browser at a host: whatever it complains of, or asks of elsewhere, fails the test that has opened it."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from ringfence.host import Host

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parents[2] / "build/for-tests/axe.min.js"
LOST = re.compile("net::ERR_|ERR_INCOMPLETE|status of 502|status of 503")
"""What a browser notes where a connection was cut on purpose."""
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 800}


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


@dataclass(slots=True)
class Complaints:
    """What a browser complains of, unless it is `expected`: what it notes of an answer that a test asks for."""

    url: str
    expected: re.Pattern[str] | None = None
    found: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Hear of every page of a context."""
        context.on(
            "console", lambda said: self._hear(said.text) if said.type in {"error", "warning"} else None
        )
        context.on("weberror", lambda error: self._hear(str(error.error)))
        context.on("dialog", lambda dialog: self._hear(f"a dialog: {dialog.message}"))
        context.on("request", lambda asked: None if self._ours(asked.url) else self._hear(asked.url))

    def _ours(self, url: str) -> bool:
        return url == self.url or url.startswith((f"{self.url}/", f"blob:{self.url}/"))

    def _hear(self, said: str) -> None:
        if self.expected is None or not self.expected.search(said):
            self.found.append(said)


async def sign_in(page: Page, url: str, token: str) -> None:
    """As a person does."""
    await page.goto(f"{url}/sign-in")
    await page.fill("#token", token)
    await page.press("#token", "Enter")
    await page.wait_for_url(f"{url}/")


@asynccontextmanager
async def opened(
    url: str,
    token: str,
    *,
    browser: Browser | None = None,
    cut: bool = False,
    expected: str | None = None,
    **options: Any,
) -> AsyncIterator[Page]:
    """A page that is signed in with `token`, in a context of its own; with no `browser`, in one of its own, too.

    With `cut`, connections may be lost meanwhile; `expected` are further complaints that the test provokes.
    """
    if browser is None:
        async with (
            browsing() as own,
            opened(url, token, browser=own, cut=cut, expected=expected, **options) as page,
        ):
            yield page
        return
    allowed = "|".join(one for one in (LOST.pattern if cut else None, expected) if one)
    complaints = Complaints(url, re.compile(allowed) if allowed else None)
    context = await browser.new_context(**options)
    try:
        complaints.watch(context)
        page = await context.new_page()
        page.set_default_timeout(60_000)
        await sign_in(page, url, token)
        yield page
    finally:
        await context.close()
    assert complaints.found == [], complaints.found


async def shutting_out(page: Page, *, only: str | None = None) -> list[str]:
    """What axe-core finds on a page that keeps somebody from using it: what it calls serious or critical.

    With `only`, it looks for what one rule forbids.
    """
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(AXE.read_text())
    found = await page.evaluate(
        "only => axe.run({ resultTypes: ['violations'], ...(only && { runOnly: [only] }) })", only
    )
    return [
        f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


async def use_theme(page: Page, theme: Literal["light", "dark"]) -> None:
    """Have it light or dark, and wait until it is shown so."""
    await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    await page.evaluate("new Promise(shown => requestAnimationFrame(() => requestAnimationFrame(shown)))")
