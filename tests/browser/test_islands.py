"""Editors and charts: loaded where there is one, in both themes, and under the pages' own policy."""

from __future__ import annotations

import pytest
from ringfence.host import Host
from ringfence.testing import served

from tests.browser.opening import admin_token, opened, shutting_out
from tests.browser.tried import TriedPlugin
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium")]


async def test_an_editor_says_what_does_not_fit_the_schema_and_the_form_is_sent_as_edited(
    host: Host, tried: TriedPlugin
) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        await page.goto(f"{url}/written")
        for language, text, wrong in (
            ("json", '{"name": "x", "port": "high"}', "This must be a whole number, and is a text."),
            ("json", '{"name": ', "This is not JSON"),
            ("yaml", "name: x\nprot: 5\n", "prot is not known here. Known: name or port."),
            ("yaml", "name: x\nport: 70000", "This must be at most 65535."),
        ):
            editor = page.locator(f"[data-editor={language}] .cm-content")
            await editor.click()
            await page.keyboard.press("Control+a")
            await page.keyboard.insert_text(text)
            mark = page.locator(f"[data-editor={language}] .cm-lintRange-error").first
            await mark.wait_for(state="attached")
            said = page.locator(f"[data-editor={language}] [role=status]", has_text=wrong)
            await said.wait_for()
            await page.keyboard.press("F8")
            await page.locator(f"[data-editor={language}] .cm-tooltip", has_text=wrong).wait_for()
            await page.keyboard.press("Escape")
        assert await shutting_out(page) == []
        await page.click("button.main")
        await page.locator(".said").wait_for()
        assert tried.sent[0]["plan"] == "name: x\nport: 70000"


async def test_a_chart_is_drawn_and_shows_a_part_larger(host: Host) -> None:
    async with served(host) as url, opened(url, admin_token(host)) as page:
        scripts: list[str] = []
        page.on("request", lambda asked: scripts.append(asked.url) if "/assets/island" in asked.url else None)
        await page.goto(f"{url}/plugins")
        assert scripts == []
        await page.goto(f"{url}/tried")
        await page.locator("[data-chart] canvas").wait_for()
        assert len(scripts) == 1
        await page.get_by_text("Thresholds: at most (60 ms)").wait_for()
        before = await page.locator("[data-chart] canvas").screenshot()
        await page.click("[data-chart] button:text('Closer')")
        assert await page.locator("[data-chart] canvas").screenshot() != before
