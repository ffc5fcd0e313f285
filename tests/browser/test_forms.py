"""Each form right and wrong, in a browser: what is wrong is told in words and loses nothing, what is right is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from playwright.async_api import ElementHandle, Locator, Page
from ringfence.pages.site import Site
from sqlalchemy import text

from tests.browser.filling import Filled
from tests.browser.forms import ELSEWHERE, FORMS, OFF, ON, Row
from tests.browser.worlds import World
from tests.primitives import requires
from tests.waiting import until_it

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
SHOW = """form => {
    form.noValidate = true;
    for (let one = form; one; one = one.parentElement) {
        if (one.localName === 'details') one.open = true;
    }
    for (const one of form.querySelectorAll('details')) one.open = true;
}"""
SECRET = {"value", "lines", "address"}
"""Fields that never come back."""


async def test_every_form_that_is_declared_has_a_row(full: World) -> None:
    site: Site = full.host.app.state.site
    assert set(FORMS) | set(ELSEWHERE) == set(site.actions)
    for place in ELSEWHERE.values():
        assert Path(place).exists(), place


def filled_in(words: str, names: Mapping[str, str]) -> str:
    """Words in which names in braces stand for what was kept."""
    return re.sub(r"{(\w+)}", lambda found: names.get(found[1], found[0]), words)


def address_of(action: str, of: Mapping[str, str], names: Mapping[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda found: filled_in(of[found[1]], names), action)


async def form_at(page: Page, address: str) -> Locator:
    """The form that is sent to an address, with nothing of it folded away."""
    form = page.locator(
        f'main form[method=post][action="{address}"], main form:has([formaction="{address}"])'
    ).first
    await form.wait_for(state="attached")
    await form.evaluate(SHOW)
    return form


async def enter(form: Locator, fields: Mapping[str, str]) -> None:
    """Fill in fields by their names, as a person does; what is hidden is set."""
    for name, value in fields.items():
        one = form.locator(f'[name="{name}"]').first
        if value in (ON, OFF):
            await one.set_checked(value == ON)
        elif await one.count() == 0 or await one.get_attribute("type") == "hidden":
            await form.evaluate(
                """(form, [name, value]) => {
                    const one = form.elements[name] ?? form.appendChild(document.createElement('input'));
                    Object.assign(one, { type: 'hidden', name, value });
                }""",
                [name, value],
            )
        elif await one.evaluate("one => one.localName") == "select":
            await one.select_option(value)
        elif await form.locator(f'[data-editor]:has([name="{name}"])').count():
            content = form.locator(f'[data-editor]:has([name="{name}"]) .cm-content')
            await content.click()
            await form.page.keyboard.press("Control+a")
            await form.page.keyboard.insert_text(value)
        else:
            await one.fill(value)


async def button_of(form: Locator, words: str | None) -> ElementHandle:
    """The button that sends it; of several, the one with these words."""
    button = form.get_by_role("button", name=words, exact=True) if words else form.locator("button").last
    return await button.element_handle()


async def press(page: Page, button: ElementHandle) -> int:
    """Press a button, and the status of the page that comes."""
    async with page.expect_response(
        lambda answer: answer.request.method == "POST" and answer.request.is_navigation_request()
    ) as sent:
        await button.click()
    answer = await sent.value
    await page.wait_for_load_state()
    return answer.status


async def try_wrong(page: Page, url: str, action: str, row: Row, names: Mapping[str, str]) -> None:
    """Send it as it must not be: what is wrong is said, and what was entered is still there."""
    address = address_of(action, row.of, names)
    await page.goto(url + filled_in(row.on, names))
    form = await form_at(page, address)
    if row.gone is not None:
        button = await button_of(form, row.button)
        await form.evaluate("(form, to) => { form.action = to; }", address_of(action, row.gone, names))
        assert await press(page, button) == 404, action
        assert row.told in await page.inner_text("main"), f"{action}: {await page.inner_text('main')}"
        assert await page.locator("main a").count(), action
        return
    assert row.wrong is not None
    await enter(form, row.wrong)
    status = await press(page, await button_of(form, row.button))
    assert status in (404, 409, 422, 200), f"{action}: {status}"
    if status == 404:
        assert row.told in await page.inner_text("main"), action
        return
    said = " | ".join(await page.locator("main :is(.error, .findings)").all_inner_texts())
    assert row.told in said, f"{action}: {said}"
    again = await form_at(page, address)
    for name, value in row.wrong.items():
        one = again.locator(f'[name="{name}"]').first
        if value not in (ON, OFF) and name not in SECRET and len(value) < 500:
            kept = await one.input_value()
            assert kept.strip() in (value.strip(), ""), f"{action}: {name} is {kept!r} now"


async def try_right(page: Page, url: str, action: str, row: Row, names: dict[str, str]) -> None:
    """Send it as it should be: it is done, and said."""
    address = address_of(action, row.of, names)
    await page.goto(url + filled_in(row.on, names))
    form = await form_at(page, address)
    await enter(form, row.right)
    status = await press(page, await button_of(form, row.button))
    said = await page.inner_text("main")
    assert status < 400, f"{action}: {status} {said[:2000]}"
    assert row.says in said, f"{action}: {said[:2000]}"
    for name, form_of in row.keep.items():
        found = re.search(form_of, page.url) or re.search(form_of, await page.content())
        if found is None:
            await page.goto(url + filled_in(row.on, names))
            found = re.search(form_of, await page.content())
        assert found is not None, f"{action}: {form_of}"
        names[name] = found[1]


async def test_each_form_right_and_wrong(full: World, filled: Filled) -> None:
    names = {"failed_job": filled.job} | await _what_machines_make(full)
    # A page of an error is noted by the browser as one.
    async with full.opened(expected="status of 4") as page, full.opened() as other:
        await other.goto(f"{full.url}/sessions")
        mine = await other.locator("tr:has(.state) form").get_attribute("action")
        assert mine is not None
        names["session"] = mine.split("/")[2]
        await other.goto("about:blank")
        for action, rows in FORMS.items():
            for row in rows:
                if row.never_wrong == "":
                    await try_wrong(page, full.url, action, row, names)
                await try_right(page, full.url, action, row, names)


async def _what_machines_make(world: World) -> dict[str, str]:
    """A job that waits, an incident that lasts, and two messages of it that could not be delivered."""
    waits = text("SELECT id FROM jobs WHERE kind = 'probe.toil' AND ended_at IS NULL")
    lasts = text("SELECT id FROM notifications_incidents WHERE lasts AND acknowledged_at IS NULL ORDER BY id")
    fails = text("""
        INSERT INTO notifications_messages (id, channel, severity, title, text, told, events, status, next_at)
        SELECT gen_random_uuid(), 'ops', 'error', 'of forms', 'of forms', '{}', 1, 'failed', now()
          FROM generate_series(1, 2)
        RETURNING id
    """)

    async def incident() -> str | None:
        async with world.host.database.sessions() as session:
            return (found := (await session.execute(lasts)).scalars().first()) and str(found)

    found = {"incident": await until_it(incident, "a failing check is an incident") or ""}
    async with world.host.database.sessions.begin() as session:
        found["waiting_job"] = str((await session.execute(waits)).scalars().first())
        found["message"] = str((await session.execute(fails)).scalars().first())
    return found
