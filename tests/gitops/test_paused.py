"""What the host has paused stays so though git declares it, until its document is new or somebody resumes it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable

import pytest
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client, signed_in
from ringfence_automations.plugin import AutomationsPlugin
from sqlalchemy.ext.asyncio import AsyncSession

from tests.gitops.repositories import HAS_GIT, Repository
from tests.gitops.test_keeping import form
from tests.gitops.test_syncing import change_in_database, put, settled, shown, synced, told

pytestmark = pytest.mark.skipif(not HAS_GIT, reason="git is not installed")
LOOP, PAGE = "/api/automations/automations/loop", "/automations/loop"
DOCUMENT = """
apiVersion: ringfence/v1
kind: Automation
metadata: {{name: loop}}
spec:
  description: {words}
  enabled: true
  steps:
    - id: one
      run_shell: {{script: exit 0}}
"""


@pytest.fixture
def repository(repository: Repository) -> Repository:
    repository.commit({"loop.yaml": DOCUMENT.format(words="the first")}, "Begin")
    return repository


def pausing(plugin: AutomationsPlugin) -> Callable[[], Awaitable[None]]:
    """The host's own way to pause the automation, which has been started too often."""
    automations = plugin.rooms[0].automations

    async def too_often(session: AsyncSession, since: dt.datetime) -> list[str]:
        del session, since
        return ["loop"]

    async def pause() -> None:
        async with plugin._context.sessions.begin() as session:
            assert await automations.pause(session, "loop", "paused: too often", too_often) is not None

    return pause


async def test_a_pause_by_the_host_outlives_every_sync_of_the_same_document(
    run_host: RunHost, repository: Repository
) -> None:
    plugins = discover()
    host = await run_host(plugins=plugins)
    pause = pausing(next(one for one in plugins if isinstance(one, AutomationsPlugin)))
    async with (
        client(host, name="ann", rules=list(host.access.rules)) as ann,
        signed_in(host, ann) as browser,
    ):

        async def now() -> tuple[bool, str | None, str]:
            found = (await ann.get(LOOP)).json()
            return found["enabled"], found["paused"], found["definition"]["description"]

        await put(ann, "shop", repository.url)
        await settled(ann, "shop", commit=repository.head())
        assert await now() == (True, None, "the first")

        await pause()
        before = len(await told(host, "gitops-synced"))
        await synced(ann, "shop")
        assert await now() == (False, "paused: too often", "the first")
        assert len(await told(host, "gitops-synced")) == before
        source = await shown(ann, "shop")
        [finding] = source["findings"]
        assert (source["status"], source["error"], finding["file"]) == ("synced", None, "loop.yaml")
        assert "Automation loop: the host has paused: too often" in finding["message"]
        assert "ringfence automation enable loop" in finding["message"]

        # What else has drifted is set right, and the pause stays; and so it does when another document changes.
        await change_in_database(
            host,
            'UPDATE automations_automations SET definition = definition || \'{"description": "drifted"}\'',
        )
        other = DOCUMENT.format(words="another").replace("name: loop", "name: other")
        commit = repository.commit({"other.yaml": other}, "One more")
        await synced(ann, "shop")
        await settled(ann, "shop", commit=commit)
        assert await now() == (False, "paused: too often", "the first")

        # Somebody may resume it although it comes from git, and may do no more than that.
        assert (await ann.post(f"{LOOP}/disable")).status_code == 409
        page = (await browser.get(PAGE)).text
        assert "The host has paused: too often." in page
        assert page.index(f'action="{PAGE}/enable"') < page.index('<fieldset class="plain" disabled>')
        assert (await browser.post(f"{PAGE}/enable", data=await form(browser, PAGE))).status_code == 303
        assert f'action="{PAGE}/enable"' not in (await browser.get(PAGE)).text
        await pause()
        assert (await ann.post(f"{LOOP}/enable")).status_code == 200
        assert (await ann.post(f"{LOOP}/disable")).status_code == 409
        await synced(ann, "shop")
        assert await now() == (True, None, "the first")
        assert (await shown(ann, "shop"))["findings"] == []

        # A commit that changes its document resumes it, too.
        await pause()
        commit = repository.commit({"loop.yaml": DOCUMENT.format(words="the second")}, "Mend the loop")
        await synced(ann, "shop")
        await settled(ann, "shop", commit=commit)
        assert await now() == (True, None, "the second")
