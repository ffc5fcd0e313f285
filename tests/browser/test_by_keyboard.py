"""The keyboard alone: sign in, find a check, silence it, change the policy; focus is seen, and never lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.async_api import Page

from tests.browser.filling import Filled, report
from tests.browser.worlds import World
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
FOCUSED = """(() => {
    const one = document.activeElement;
    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    const words = one.innerText || one.labels?.[0]?.innerText || one.ariaLabel || '';
    return {
        words: words.trim(), tag: one.localName,
        name: one.getAttribute('name') ?? '', to: one.getAttribute('href') ?? '',
        seen: one !== document.body && box.width > 0 && box.height > 0
            && ((outlineStyle !== 'none' && parseFloat(outlineWidth) > 0) || boxShadow !== 'none'),
        dialog: one.closest('dialog')?.id ?? '',
    };
})()"""
MOST_TABS = 150


async def tab_to(page: Page, wanted: Callable[[dict[str, str]], bool], what: str) -> None:
    """Press Tab until something has the focus; wherever it goes on the way, it is seen."""
    for _ in range(MOST_TABS):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(FOCUSED)
        assert focused["seen"], f"focus cannot be seen at {focused} on the way to {what}"
        if wanted(focused):
            return
    raise AssertionError(f"Tab does not lead to {what}")


async def by_palette(page: Page, words: str, line: str) -> None:
    """Go where a line of the palette leads."""
    await page.keyboard.press("Control+k")
    await page.keyboard.type(words)
    await page.locator("#palette [role=option]:visible", has_text=line).first.wait_for()
    for _ in range(20):
        if await page.locator("#palette [aria-selected]", has_text=line).count():
            break
        await page.keyboard.press("ArrowDown")
    await page.locator("#palette [aria-selected]", has_text=line).wait_for()
    await page.keyboard.press("Enter")


async def test_signing_in_silencing_a_check_and_saving_a_policy_take_no_mouse(
    full: World, filled: Filled
) -> None:
    context = await full.browser.new_context()
    try:
        page = await context.new_page()
        page.set_default_timeout(60_000)
        await page.goto(f"{full.url}/sign-in")
        assert (await page.evaluate(FOCUSED))["name"] == "token", "the field for the token has the focus"
        await page.keyboard.type(full.admin)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{full.url}/")

        await by_palette(page, "silence img", "Silence <img")
        await page.wait_for_url("**/silence?for=3600")
        assert (await page.evaluate(FOCUSED))["name"] == "reason", "the field to write in has the focus"
        await page.keyboard.type("by keyboard")
        await page.keyboard.press("Enter")
        await page.locator(".said", has_text="The check is silenced").wait_for()

        await page.locator("table", has_text="by keyboard").wait_for()
        await tab_to(
            page, lambda one: one["tag"] == "a" and one["to"].endswith("/edit"), "the link to edit it"
        )
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/edit")

        await by_palette(page, "edit the pol", "Edit the policy")
        await page.wait_for_url("**/policy")
        await tab_to(page, lambda one: one["name"] == "resources.maxOpenFiles", "a setting")
        await page.keyboard.press("Control+a")
        await page.keyboard.type("200")
        await tab_to(page, lambda one: one["name"] == "reason", "the reason")
        await page.keyboard.type("by keyboard")
        await tab_to(page, lambda one: one["words"] == "Save", "Save")
        await page.keyboard.press("Enter")
        await page.locator(".said", has_text="The policy is now at revision").wait_for()
    finally:
        await context.close()


async def test_focus_stays_where_it_is_when_the_page_is_made_anew(full: World, filled: Filled) -> None:
    async with full.opened() as page:
        await page.goto(f"{full.url}/checks/{filled.check}")
        await tab_to(page, lambda one: one["words"] == "Edit", "the link to edit it")
        await page.evaluate("document.activeElement.dataset.mine = 'yes'")
        for status, shown in (("degraded", "first news"), ("healthy", "second news")):
            await report(full, filled.check, shown, status=status)
            await page.locator("main", has_text=shown).wait_for()
            focused = await page.evaluate(FOCUSED)
            assert (focused["words"], focused["seen"]) == ("Edit", True)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/edit")


async def test_dialogs_keep_the_focus_and_give_it_back(full: World, filled: Filled) -> None:
    async with full.opened() as page:
        await page.goto(f"{full.url}/satellites")
        await tab_to(page, lambda one: one["name"] == "only", "the filter")
        await page.evaluate("document.activeElement.blur()")
        await tab_to(page, lambda one: one["words"] == "Add a satellite", "the link to add one")
        for opens, dialog in (("?", "keys"), ("Control+k", "palette")):
            await page.keyboard.press(opens)
            await page.locator(f"#{dialog}").wait_for()
            for _ in range(6):
                await page.keyboard.press("Tab")
                focused = await page.evaluate(FOCUSED)
                assert focused["dialog"] == dialog or focused["tag"] == "body", focused
            await page.keyboard.press("Escape")
            await page.locator(f"#{dialog}").wait_for(state="hidden")
            assert (await page.evaluate(FOCUSED))["words"] == "Add a satellite"
        # A question of the palette has the focus on what changes nothing.
        await page.keyboard.press("Control+k")
        await page.keyboard.type("deny all net")
        await page.locator("#palette [aria-selected]", has_text="Deny all network").wait_for()
        await page.keyboard.press("Enter")
        await page.locator("[data-question]").wait_for()
        assert (await page.evaluate(FOCUSED))["words"] == "No"
        await page.keyboard.press("Escape")
        await page.locator("#palette").wait_for(state="hidden")
        assert (await page.evaluate(FOCUSED))["words"] == "Add a satellite"


async def test_the_theme_is_switched_and_kept(full: World) -> None:
    async with full.opened(color_scheme="light") as page:
        colour = "getComputedStyle(document.documentElement).backgroundColor"
        light = await page.evaluate(colour)
        await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        dark = await page.evaluate(colour)
        assert dark != light
        await tab_to(page, lambda one: one["words"] == "Light or dark", "the switch")
        await page.keyboard.press("Enter")
        assert await page.evaluate(colour) == light
        await page.goto(f"{full.url}/plugins")
        assert await page.evaluate(colour) == light
