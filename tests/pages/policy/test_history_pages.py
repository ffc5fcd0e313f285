"""The history as pages: page by page, what differs, going back, and whether all is as it was written."""

from __future__ import annotations

import re

import httpx
import pytest
from ringfence.host import Host
from ringfence_script_packages import verifying
from sqlalchemy import text

from tests.pages.conftest import Browse, Browser
from tests.pages.policy.conftest import POLICY, policy_now
from tests.pages.policy.test_two_at_once import hidden


async def changed(http: httpx.AsyncClient, times: int) -> None:
    for seconds in range(1, times + 1):
        body = {"policy": {"resources": {"cpuSeconds": seconds}}, "reason": f"to {seconds}"}
        assert (await http.patch(POLICY, json=body)).status_code == 200


async def revert_form(browser: Browser, to: str = "") -> dict[str, str]:
    return hidden((await browser.get(f"/policy/revert{to}")).text, "/policy/revert")


async def test_revisions_come_page_by_page_newest_first_each_with_who_why_and_what(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    assert "has never been changed" in (await browser.get("/policy/history")).text
    await changed(http, 27)
    first = (await browser.get("/policy/history")).text
    links = r'<th scope="row"[^>]*><a href="/policy/history/(\d+)">'
    assert re.findall(links, first) == [str(number) for number in range(27, 2, -1)]
    assert "<bdi>to 27</bdi>" in first
    back = [str(number) for number in range(26, 2, -1)]
    assert re.findall(r'href="/policy/revert[?]to=(\d+)">Go back', first) == back, "not to the one that holds"
    assert "<ins>+ resources.cpuSeconds = 27 seconds</ins>" in first
    following = re.search(r'<a href="(\?[^"]*after=3)" rel="next">', first)
    assert following is not None
    assert re.findall(links, (await browser.get(f"/policy/history{following[1]}")).text) == ["2", "1"]
    assert (await browser.get("/policy/history?after=x")).status_code == 422


async def test_a_revision_shows_what_differs_from_the_one_before_or_from_any(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    await changed(http, 3)
    page = (await browser.get("/policy/history/3")).text
    assert "<del>- resources.cpuSeconds = 2 seconds</del>" in page
    assert "<ins>+ resources.cpuSeconds = 3 seconds</ins>" in page
    assert "= 60 seconds</del>" in (await browser.get("/policy/history/3?compare=0")).text
    for missing in ("4", "abc", "9" * 30, "-1"):
        assert (await browser.get(f"/policy/history/{missing}")).status_code == 404
    assert (await browser.get("/policy/history/3?compare=77")).status_code == 404


async def test_going_back_is_foreseen_agreed_to_and_written_with_a_reason(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    assert "nothing to go back to" in (await browser.get("/policy/revert")).text
    await changed(http, 2)
    page = (await browser.get("/policy/revert")).text
    assert "<ins>+ resources.cpuSeconds = 1 second" in page
    stricter = await revert_form(browser)
    assert (await browser.post("/policy/revert", {**stricter, "reason": " "})).status_code == 422
    assert (await browser.post("/policy/revert", {**stricter, "reason": "r" * 1001})).status_code == 422
    assert (await browser.post("/policy/revert", {**stricter, "reason": "too much"})).status_code == 303
    now = await policy_now(http)
    assert (now["revision"], now["policy"]["resources"]["cpuSeconds"]) == (3, 1)
    # To the default is looser: it has to be agreed to.
    looser = {**await revert_form(browser, "?to=0"), "reason": "back"}
    assert (await browser.post("/policy/revert", looser)).status_code == 422
    assert (await browser.post("/policy/revert", {**looser, "sure": "yes"})).status_code == 303
    assert (await policy_now(http))["policy"]["resources"]["cpuSeconds"] == 60
    assert (await browser.get("/policy/revert?to=99")).status_code == 404


async def test_going_back_after_somebody_else_has_changed_the_policy_is_looked_at_again(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    await changed(http, 2)
    form = {**await revert_form(browser), "reason": "mine"}
    await http.patch(POLICY, json={"policy": {"network": {"mode": "deny"}}})
    moved = await browser.post("/policy/revert", form)
    assert moved.status_code == 409
    assert "at revision 3 now" in moved.text
    assert (await policy_now(http))["revision"] == 3


async def test_a_history_that_was_tampered_with_is_told_on_the_overview_and_by_the_button(
    host: Host, browse: Browse, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await browse(host)
    await changed(http, 2)
    good = await browser.act("/policy/verify")
    assert "All 2 revisions are unchanged." in good.text
    noted = re.search(r"<code class=\"secret\">(2:[0-9a-f]{64})</code>", good.text)
    assert noted is not None
    assert "Verified up to revision 2" in (await browser.get("/policy/history")).text
    assert (await browser.act("/policy/verify", anchor="nonsense")).status_code == 422
    assert "another hash" in (await browser.act("/policy/verify", anchor=f"2:{'0' * 64}")).text
    assert "directly in the database" not in (await browser.get("/")).text
    async with host.runtime.database.sessions.begin() as session:
        await session.execute(text("SET LOCAL session_replication_role = replica"))
        await session.execute(
            text("UPDATE events SET reason = 'nothing' WHERE stream = 'sandbox-policy' AND version = 1")
        )
    monkeypatch.setattr(verifying, "OLD_SECONDS", 0.0)
    told = (await browser.get("/")).text
    assert "Revision 1 does not fit its hash" in told
    assert "Revision 1 does not fit its hash" in (await browser.get("/policy/history")).text
    assert "tampered" in (await browser.act("/policy/verify", anchor=noted[1])).text
