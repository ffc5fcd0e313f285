"""A run that a person starts, looks at, cancels and starts again, all from the pages."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.browser.worlds import World
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
DEPLOY = """
name: deploy
inputs:
  whom: {required: true, description: who is told}
  times: {type: integer, default: 1}
steps:
  - id: tell
    run_shell:
      script: echo "told $WHOM, $TIMES times"
      env: {WHOM: "{{ inputs.whom }}", TIMES: "{{ inputs.times }}"}
  - id: rest
    wait: {for: 1h}
"""


async def test_a_run_is_started_with_inputs_looked_at_cancelled_and_started_again(full: World) -> None:
    await full.send("POST", "/api/automations/apply", {"text": DEPLOY, "reason": "for a test"})
    async with full.opened(expected="status of 422") as page:
        await page.goto(f"{full.url}/automations/deploy")
        # A browser lets white space through as a required text; the host does not, and keeps what was entered.
        await page.fill("#field-input-whom", "   ")
        await page.fill("#field-input-times", "3")
        await page.click("main button.main >> text=Run")
        await page.locator("#error-input-whom", has_text="This input is required.").wait_for()
        assert await page.input_value("#field-input-times") == "3"

        await page.fill("#field-input-whom", "ann & bob")
        await page.click("main button.main >> text=Run")
        await page.wait_for_url(f"{full.url}/runs/*")
        first = page.url
        await told(page, "told ann & bob, 3 times")

        await page.click("summary >> text=Cancel")
        question = page.locator("details.confirm", has=page.locator("button >> text=Cancel the run"))
        assert "These running steps are stopped: rest" in await question.inner_text()
        await question.locator("button").click()
        await page.locator("main .state", has_text="cancelled").first.wait_for()
        assert page.url == first
        assert await page.locator("summary >> text=Cancel").count() == 0

        await page.click("summary >> text=Start again")
        await page.click("button >> text=Start again")
        await page.wait_for_function("before => location.href !== before", arg=first)
        await told(page, "told ann & bob, 3 times")
        await page.click("summary >> text=Inputs")
        assert '"times": 3' in await page.locator("details[open] pre").first.inner_text()
        await page.click("summary >> text=Cancel")
        await page.click("button >> text=Cancel the run")
        await page.locator("main .state", has_text="cancelled").first.wait_for()


async def told(page: Page, words: str) -> None:
    """Wait, without loading anything anew, until the first step has ended; then look into its artifact."""
    row = page.locator("tr", has=page.locator("th >> text=tell"))
    await row.locator(".state", has_text="succeeded").wait_for()
    await page.locator("tr", has=page.locator("th >> text=rest")).wait_for()
    await row.locator("summary >> text=Artifact").click()
    artifact = row.locator("details[open] pre")
    assert words in await artifact.inner_text()
    # It stays open while the page follows the run.
    async with page.expect_response(lambda answer: "fragment=" in answer.url):
        pass
    assert words in await artifact.inner_text()
