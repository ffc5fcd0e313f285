"""Pages and forms as several sets of rules: what may not be done is not shown, and is refused all the same."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import APIResponse, Page
from ringfence.access import Principal
from ringfence.access.rules import Grant
from ringfence.pages.site import Site, may
from sqlalchemy import text

from tests.browser.filling import Filled
from tests.browser.walking import Walk, declared, shapes
from tests.browser.worlds import World
from tests.primitives import requires

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
LEADS = """[...document.querySelectorAll('a[href]')].map(one => one.getAttribute('href'))
    .concat([...document.querySelectorAll('[data-chart]')].map(one => one.dataset.chart))
    .concat([...document.querySelectorAll('[data-fresh]')].map(one => one.dataset.fresh))
    .filter(one => one.startsWith('/'))"""
SENDS = """[...document.querySelectorAll('form[method=post]')].map(one => one.getAttribute('action'))
    .concat([...document.querySelectorAll('[formaction]')].map(one => one.getAttribute('formaction')))"""
STATUS = """async path => {
    const ended = new AbortController();
    const { status } = await fetch(path, { signal: ended.signal });
    ended.abort();
    return status;
}"""
"""What a script's request is answered with; of a stream, nothing more is waited for."""
OWN = ("/api/", "/assets/", "/sign-out", "/sign-in")


@dataclass(frozen=True)
class Ways:
    """All that is declared, and the addresses that the administrator can get to."""

    world: World
    pages: dict[str, list[str]]

    @property
    def site(self) -> Site:
        site: Site = self.world.host.app.state.site
        return site

    def rule_of(self, address: str) -> Any:
        """The rule of the page or the data at an address."""
        rules = {path: part.shown.rule for path, part in self.site.pages.items()}
        rules |= {path: data.rule for path, data in self.site.data.items()}
        path = declared(shapes(list(rules)), address)
        assert path is not None, f"{address} leads nowhere"
        return rules[path]

    def rule_to_send(self, address: str) -> Any:
        """The rule of the action at an address."""
        path = declared(shapes(list(self.site.actions)), address)
        assert path is not None, f"{address} does nothing"
        return self.site.actions[path][1].rule

    def filled_in(self, path: str) -> str:
        """An address of what is declared at a path, with what there is in the place of its names where known."""
        known = [address for addresses in self.pages.values() for address in addresses]
        parts = path.split("/")
        for number, part in enumerate(parts):
            if part.startswith("{"):
                begins = "/".join(parts[:number]) + "/"
                fits = [one for one in known if one.startswith(begins) and len(one) > len(begins)]
                words = [one.removeprefix(begins).split("/")[0] for one in fits]
                parts[number] = next((one for one in words if one not in ("new", "failed", "sets")), "1")
        return "/".join(parts)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ways(full: World, filled: Filled) -> AsyncIterator[Ways]:
    async with full.opened() as page:
        walk = Walk(full.host, full.url, find=["silence img"])
        async for _ in walk.pages(page):
            pass
    yield Ways(full, walk.seen)


LAST_BY_SOMEBODY = "SELECT coalesce(max(position), 0) FROM events WHERE actor IS NOT NULL"


async def last_event_of_somebody(world: World) -> int:
    """Where the event log's last event by a holder of a token is: whatever they change stands in it.

    What the host finds by itself, such as the state of a check, comes at any time.
    """
    async with world.host.database.sessions() as session:
        return int((await session.execute(text(LAST_BY_SOMEBODY))).scalar_one())


async def send(page: Page, url: str, address: str, **fields: str) -> APIResponse:
    """Send a form to an address as our own page would, without one that leads there."""
    csrf = await page.locator("meta[name=csrf]").get_attribute("content")
    assert csrf is not None
    return await page.request.post(
        url + address, form={"csrf": csrf, **fields}, headers={"origin": url}, max_redirects=0
    )


async def test_what_a_token_may_not_do_is_not_shown_and_is_refused_all_the_same(ways: Ways) -> None:
    world, every = ways.world, sorted(ways.world.host.access.rules)
    viewers = {
        "all": every,
        "read only": [rule for rule in every if rule.endswith(".read")],
        "one rule": ["satellite.satellite.read on env=dev"],
    }
    for viewer, rules in viewers.items():
        principal = Principal.of(viewer, map(Grant.parse, rules))
        token = await world.token(f"viewer: {viewer}", rules)
        async with world.opened(token, expected="status of 4") as page:
            navigated = 0
            for path, addresses in ways.pages.items():
                allowed = may(principal, ways.site.pages[path].shown.rule)
                if not allowed:
                    refused = await page.request.get(world.url + addresses[0])
                    assert refused.status == 403, f"{viewer}: {addresses[0]}"
                    assert "You may not see this" in await refused.text()
                    continue
                answer = await page.goto(world.url + addresses[0])
                assert answer is not None
                assert answer.status == 200, f"{viewer}: {addresses[0]}"
                navigated += 1
                for lead in await page.evaluate(LEADS):
                    if not lead.startswith(OWN):
                        told = f"{viewer}: {addresses[0]} leads to {lead}"
                        assert may(principal, ways.rule_of(lead)), told
                for sends in await page.evaluate(SENDS):
                    if not sends.startswith(OWN):
                        told = f"{viewer}: {addresses[0]} sends to {sends}"
                        assert may(principal, ways.rule_to_send(sends)), told
            assert navigated >= 2, viewer
            await page.goto(f"{world.url}/sessions")
            before = await last_event_of_somebody(world)
            for path, (_, action) in ways.site.actions.items():
                if not may(principal, action.rule):
                    refused = await send(page, world.url, ways.filled_in(path))
                    assert refused.status == 403, f"{viewer}: {path}"
            for path, data in ways.site.data.items():
                status = await page.evaluate(STATUS, ways.filled_in(path))
                assert (status == 403) is not may(principal, data.rule), f"{viewer}: {path}: {status}"
            assert await last_event_of_somebody(world) == before, viewer


async def test_no_page_leads_a_holder_of_one_rule_to_what_another_rule_guards(ways: Ways) -> None:
    world, found = ways.world, []
    origin = {"origin": world.url, "accept": "text/html"}
    for rule in sorted(world.host.access.rules):
        principal = Principal.of(rule, [Grant.parse(rule)])
        async with httpx.AsyncClient(base_url=world.url, headers=origin, timeout=60) as http:
            await http.post("/sign-in", data={"token": await world.token(f"alone: {rule}", [rule])})
            for path, addresses in ways.pages.items():
                if not may(principal, ways.site.pages[path].shown.rule):
                    continue
                shown = await http.get(addresses[0])
                # What a page is about may take another rule to see, too: it says so then, or knows nothing of it.
                assert shown.status_code in (200, 403, 404), f"{rule}: {addresses[0]}"
                leads = set(re.findall(r'<a [^>]*?href="(/[^"]*)"', shown.text))
                for lead in {html.unescape(one) for one in leads}:
                    if not lead.startswith(OWN) and not may(principal, ways.rule_of(lead)):
                        found.append(f"{rule}: {path} leads to {lead}")
                posts = re.findall(r'<form method="post" action="(/[^"]*)"', shown.text)
                found += [
                    f"{rule}: {path} sends to {one}"
                    for one in posts
                    if not one.startswith(OWN) and not may(principal, ways.rule_to_send(one))
                ]
    assert found == [], "\n".join(found)


async def test_a_refused_page_says_which_rule_it_needs_and_where_to_go_on(ways: Ways) -> None:
    world = ways.world
    token = await world.token("reader", ["satellite.satellite.read"])
    async with world.opened(token, expected="status of 403") as page:
        await page.goto(f"{world.url}/policy")
        assert "script-packages.script-sandbox.manage" in await page.inner_text("main")
        assert await page.locator("nav a[href='/policy']").count() == 0
        await page.click("main a[href='/']")
        await page.wait_for_url(f"{world.url}/")


async def test_a_narrowed_rule_reaches_what_carries_its_label_and_nothing_else(
    ways: Ways, filled: Filled
) -> None:
    world = ways.world
    mine, others = filled.satellites[0], filled.satellites[-1]
    rules = ["satellite.satellite.read on env=dev", "satellite.satellite.manage on env=dev"]
    async with world.opened(await world.token("narrowed", rules)) as page:
        await page.goto(f"{world.url}/satellites?q=web-")
        shown = await page.locator("tbody tr").count()
        assert shown == len(filled.satellites) - 1
        assert others not in await page.content()
        before = await last_event_of_somebody(world)
        reached = {}
        for satellite in (mine, others):
            fields = {"name": "renamed", "region": "eu", "offline": "90", "labels": "env=dev", "seen": "x"}
            for path in ("", "/delete", "/rotate", "/runs"):
                if satellite == others:
                    answer = await send(page, world.url, f"/satellites/{satellite}{path}", **fields)
                    assert answer.status in (403, 404), path
            reached[satellite] = (await page.request.get(f"{world.url}/satellites/{satellite}")).status
        assert reached == {mine: 200, others: 403}
        assert await last_event_of_somebody(world) == before
        found = await (await page.request.get(f"{world.url}/find?q=web-{len(filled.satellites)}")).json()
        assert not re.search(others, str(found))
        await page.goto(f"{world.url}/satellites/{mine}")
        assert urlsplit(page.url).path.endswith(mine)
        assert await page.locator(f"form[action='/satellites/{mine}/delete']").count() == 1
        assert await page.locator(f"form[action='/satellites/{mine}/rotate']").count() == 0
