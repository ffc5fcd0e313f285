"""Hostile words in every field that people, scripts and satellites write are text everywhere, and never markup."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from ringfence.plugins.discovery import discover
from ringfence.testing import TestPostgres

from tests.browser.filling import Filled, fill, report
from tests.browser.walking import Walk
from tests.browser.worlds import World, world_of
from tests.pages.own.probe import Note, Probe, toiled
from tests.pages.test_pages import HOSTILE
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
WORDS = (
    """"><img src=/hacked onerror=alert(1)>{{7777777*3}}\u202egpj.exe\u200b\U0001f468\u200d\U0001f52c"""
    """<b hx-get=/hacked hx-trigger=load></textarea></bdi><script>alert(1)</script>"""
    """<style>*{color:red}</style>' onfocus=alert(1) autofocus x='<a href="javascript:alert(1)">x</a>"""
)
BEGIN = '"><img src=/hacked'
FOUND = """(() => {
    const found = [];
    const odd = 'img, iframe, object, embed, style, base, math, video, audio, body script, script:not([src])';
    for (const one of document.querySelectorAll(odd)) found.push(one.outerHTML.slice(0, 120));
    for (const one of document.querySelectorAll('*')) {
        for (const { name, value } of one.attributes) {
            const leads = ['href', 'src', 'action', 'formaction'].includes(name);
            const drawn = one.closest('.cm-editor, [data-chart]');
            const sent = name.startsWith('hx-') && value.includes('hacked');
            if (name.startsWith('on') || sent || (name === 'style' && !drawn)
                || (leads && value !== '' && !/^[/#?]/.test(value)) || value === '/hacked') {
                found.push(`${one.localName} ${name}=${value.slice(0, 80)}`);
            }
        }
    }
    const text = document.body.innerText + document.title;
    if (text.includes('23333331')) found.push('a template was filled from words');
    if (/[\\u202e\\u200b]/.test(text)) found.push('what cannot be seen is not spelt out');
    return found;
})()"""
SHOWN = {
    "/checks",
    "/checks/{id}",
    "/checks/{id}/edit",
    "/checks/{id}/places",
    "/events",
    "/automations/{name}/history",
    "/notifications",
    "/notifications/incidents",
    "/packages",
    "/policy/history",
    "/policy/history/{revision}",
    "/runs/{id}",
    "/satellites",
    "/satellites/{id}",
    "/satellites/{id}/runs/{run}",
    "/tokens",
    "/tokens/{id}",
}
"""Pages that show what others have chosen: a test that sees none of it there has tried nothing."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, browser: Browser
) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("hostile")
    async with world_of(postgres, directory, browser, [*discover(), Probe()]) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hostile(world: World) -> Filled:
    route = {
        "what": WORDS[:60],
        "hook": "note-toiled",
        "title": "{{ event.words }}",
        "text": "{{ event.words }}",
        "link": "javascript:alert(1)",
        "key": ["{{ event.words }}"],
        "recoveries": [{"hook": "note-shown"}],
    }
    await world.send("PUT", "/api/notifications/routes/hostile", route)
    filled = await fill(world, WORDS)
    (probe,) = (one.plugin for one in world.host.plugins if isinstance(one.plugin, Probe))
    for number, words in enumerate(HOSTILE):
        body = {"name": f"{words}"[:90] + str(number), "rules": ["host.plugin.read"]}
        answer = await world.api.post("/api/host/tokens", json=body)
        # What may not stand in a name is refused in words, and nowhere shown.
        assert answer.status_code in (201, 422), answer.text
        await report(world, filled.check, words)
        await probe.context.emit_hook(toiled, Note(words=words), standalone=True, reason=words[:500])
    await report(world, filled.check, WORDS)
    return filled


async def nothing_but_text(page: Page) -> list[Any]:
    """What on a page is there only because words were taken for markup."""
    return list(await page.evaluate(FOUND))


async def test_words_of_others_are_text_on_every_page(world: World, hostile: Filled) -> None:
    asked: list[str] = []
    wrong, seen = [], set()
    async with world.opened() as page:
        page.on("request", lambda one: asked.append(one.url))
        walk = Walk(world.host, world.url, find=["silence img"])
        async for path in walk.pages(page):
            wrong += [f"{path}: {one}" for one in await nothing_but_text(page)]
            content = str(await page.text_content("main")) + str(
                await page.evaluate(
                    "[...document.querySelectorAll('main :is(textarea, input)')].map(one => one.value)"
                )
            )
            if BEGIN in content:
                seen |= {shape for shape, paths in walk.seen.items() if path in paths}
    assert wrong == [], "\n".join(wrong)
    assert [one for one in asked if "hacked" in urlsplit(one).path] == []
    assert SHOWN - seen == set()


async def test_words_of_others_are_text_in_the_palette_in_charts_and_in_what_comes_live(
    world: World, hostile: Filled
) -> None:
    async with world.opened() as page:
        await page.goto(f"{world.url}/checks/{hostile.check}")
        await page.locator("[data-chart] canvas").first.wait_for()
        assert BEGIN in await page.title()
        drawn = page.locator("figure.chart", has_text=BEGIN)
        assert await drawn.count()
        await report(world, hostile.check, f"come live {WORDS}")
        await page.locator("main", has_text="come live").wait_for()
        assert await nothing_but_text(page) == []
        await page.keyboard.press("Control+k")
        await page.keyboard.type("img")
        found = page.locator("#palette [data-found]", has_text=BEGIN)
        await found.first.wait_for()
        assert await nothing_but_text(page) == []
        await page.goto(f"{world.url}/notifications")
        await page.locator("main", has_text=BEGIN).wait_for()
        assert await page.locator("a[href^='javascript']").count() == 0
        assert await nothing_but_text(page) == []
