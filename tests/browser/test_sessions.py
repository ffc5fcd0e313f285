"""Sessions in a browser: listed, ended under an open page, kept from other sites, and out of time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser
from ringfence.testing import TestPostgres
from sqlalchemy import text

from tests.browser.opening import sign_in
from tests.browser.tried import TriedPlugin
from tests.browser.worlds import World, world_of
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
SOON = 10_000
"""Milliseconds in which an open page has to say what happened."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, browser: Browser
) -> AsyncIterator[World]:
    async with world_of(postgres, tmp_path_factory.mktemp("sessions"), browser, [TriedPlugin()]) as one:
        yield one


async def test_an_open_page_says_at_once_that_its_session_was_ended_elsewhere(world: World) -> None:
    token = await world.token("held", ["host.plugin.read"])
    async with world.opened(token, expected="status of 401") as page, world.opened() as admin:
        await page.goto(f"{world.url}/tried")
        await page.evaluate("document.body.dataset.same = 'yes'")
        await admin.goto(f"{world.url}/sessions")
        row = admin.locator("tr", has_text="held")
        assert "127.0.0.1" in await row.inner_text()
        await row.locator("summary").click()
        await row.locator("button").click()
        await admin.locator(".said", has_text="The session has ended.").wait_for()
        # It says so by itself: either the page asks for signing in, or it says above what is shown that it has ended.
        said = page.locator(".ended:visible, #token")
        await said.first.wait_for(timeout=SOON)
        await page.goto(f"{world.url}/tried")
        assert "/sign-in" in page.url


async def test_a_revoked_token_takes_its_open_pages_along(world: World) -> None:
    token = await world.token("revoked", ["host.plugin.read"])
    async with world.opened(token, expected="status of 401") as page, world.opened() as admin:
        await page.goto(f"{world.url}/tried")
        await admin.goto(f"{world.url}/tokens")
        row = admin.locator("tr", has_text="revoked").first
        await row.locator("summary").click()
        await row.locator("button").click()
        await admin.locator(".said", has_text="The token is revoked.").wait_for()
        await page.locator(".ended:visible, #token").first.wait_for(timeout=SOON)
        await page.goto(f"{world.url}/sign-in")
        await page.fill("#token", token)
        await page.press("#token", "Enter")
        await page.locator(".error", has_text="This token was revoked").wait_for()


@pytest.mark.parametrize("column", ["used_at", "created_at"])
async def test_a_session_that_was_idle_or_lasted_too_long_leads_to_signing_in_and_back(
    world: World, column: str
) -> None:
    async with world.opened(expected="status of 401") as page:
        await page.goto("about:blank")
        async with world.host.database.sessions.begin() as session:
            late = f"UPDATE browser_sessions SET {column} = {column} - interval '400 days'"
            await session.execute(text(late))
        await page.goto(f"{world.url}/plugins?x=1")
        assert page.url.startswith(f"{world.url}/sign-in?to=%2Fplugins%3Fx%3D1")
        assert "session has ended" in await page.inner_text("main")
        await page.fill("#token", world.admin)
        await page.press("#token", "Enter")
        await page.wait_for_url(f"{world.url}/plugins?x=1")


async def test_a_form_whose_text_is_missing_or_wrong_changes_nothing_and_keeps_what_was_entered(
    world: World,
) -> None:
    plugin = next(one.plugin for one in world.host.plugins if isinstance(one.plugin, TriedPlugin))
    async with world.opened(expected="status of 403") as page:
        for change in ("one => one.remove()", "one => { one.value = 'guessed'; }"):
            await page.goto(f"{world.url}/written")
            await page.fill("#field-text", "precious")
            await page.locator('main form input[name="csrf"]').evaluate(change)
            await page.click("button.main")
            await page.locator("h1", has_text="The form is out of date").wait_for()
            assert plugin.sent == []
            assert "precious" in await page.content()
            await page.locator("main form button").first.click()
            await page.locator(".said", has_text="It is written.").wait_for()
            assert plugin.sent.pop()["text"] == "precious"


async def test_another_site_can_neither_send_a_form_nor_show_a_page_in_a_frame(world: World) -> None:
    plugin = next(one.plugin for one in world.host.plugins if isinstance(one.plugin, TriedPlugin))
    csrf = ""

    async def evil(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = f"""<!doctype html><title>evil</title><iframe src="{world.url}/tried"></iframe>
            <form method=post action="{world.url}/written"><input name=csrf value="{csrf}"><input name=text value=x>
            <button>Win</button></form>"""
        writer.write(b"HTTP/1.0 200 OK\r\ncontent-type: text/html\r\n\r\n" + page.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(evil, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    context = await world.browser.new_context()
    try:
        page = await context.new_page()
        await sign_in(page, world.url, world.admin)
        csrf = await page.locator("meta[name=csrf]").get_attribute("content") or ""
        for site in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
            await page.goto(site)
            framed = page.frames[-1]
            assert "Words" not in await framed.content()
            assert framed.url.startswith("chrome-error:") or "tried" not in await framed.content()
            await page.click("button")
            await page.wait_for_url(f"{world.url}/**")
            assert plugin.sent == []
            assert re.search(
                "refused|Not from|not signed in|Sign in", await page.inner_text("body"), re.IGNORECASE
            )
    finally:
        await context.close()
        server.close()


async def test_a_name_that_is_not_ours_leads_to_no_page(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.url, headers={"accept": "text/html"}) as http:
        answer = await http.get("/sign-in", headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert "evil.example" in answer.text
    assert "RINGFENCE_ALLOWED_HOSTS" in answer.text
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_who_guesses_tokens_is_told_to_wait_and_for_how_long(world: World) -> None:
    context = await world.browser.new_context()
    try:
        page = await context.new_page()
        await page.goto(f"{world.url}/sign-in")
        for _ in range(60):
            await page.fill("#token", "guessed")
            async with page.expect_response(lambda one: one.request.method == "POST") as sent:
                await page.press("#token", "Enter")
            await page.wait_for_load_state()
            if (await sent.value).status == 429:
                break
        answer = await sent.value
        assert answer.status == 429
        assert answer.headers["retry-after"].isdigit()
        told = await page.inner_text("main .error")
        assert answer.headers["retry-after"] in told
        assert await page.locator("#token").is_visible()
    finally:
        await context.close()
