"""Names, outputs and reasons that somebody else has chosen are shown as text, and never are markup."""

from __future__ import annotations

import pytest
from ringfence.host import Host
from ringfence.testing import served

from tests.browser.opening import admin_token, opened
from tests.browser.tried import TriedPlugin
from tests.pages.test_pages import HOSTILE
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]
ELEMENTS = (
    "[...document.querySelectorAll('main *')].filter(one => !one.matches('.cut')).map(one => one.localName)"
)


async def test_words_of_others_are_text_wherever_they_are_shown(host: Host, tried: TriedPlugin) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        for path in ("/", "/tried"):
            tried.words = "plain"
            await page.goto(url + path)
            plain = await page.evaluate(ELEMENTS)
            for words in HOSTILE:
                tried.words = words
                await page.goto(url + path)
                assert await page.evaluate(ELEMENTS) == plain, words[:50]
                if path == "/tried":
                    await page.locator("[data-chart] canvas").wait_for()
                    shown = await page.inner_text("#words bdi")
                    assert "<script>" in shown or not words.startswith("<script>")


async def test_words_that_were_entered_stay_what_they_are(host: Host, tried: TriedPlugin) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        for words in HOSTILE[:6]:
            tried.words = words
            await page.goto(f"{url}/written")
            await page.locator("[data-editor=python] .cm-content").wait_for()
            await page.click("button.main")
            await page.locator(".said").wait_for()
            sent = tried.sent.pop()
            assert (sent["text"], sent["script"], sent["one"]) == (words, words, "b")
