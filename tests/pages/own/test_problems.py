"""What goes wrong is told in words, with a way on: pages that are not there or not allowed, and signing in."""

from __future__ import annotations

import pytest
from ringfence.host import Host
from ringfence.pages.ways_on import ways_on
from ringfence.testing import RunHost
from ringfence.web import Problem
from sqlalchemy import text

from tests.pages.conftest import Browse, token_of
from tests.pages.own.probe import Probe


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[Probe()])


async def test_a_problem_leads_to_the_nearest_page_that_one_may_see(host: Host, browse: Browse) -> None:
    admin, reader = await browse(host), await browse(host, rules=["host.job.read"])
    stranger = await browse(host, signed_in=False)
    gone = "/jobs/00000000-0000-0000-0000-000000000000"
    for browser, path, status, way in (
        (admin, gone, 404, 'href="/jobs"'),
        # What is not there is not gone to, but to what is above it.
        (admin, f"{gone}/x/y", 404, 'href="/jobs"'),
        (admin, "/plugins/probe/x/y", 404, 'href="/plugins/probe"'),
        (admin, "/no/such/page", 404, 'href="/"'),
        (reader, "/events/7", 403, 'href="/"'),
        (admin, "/jobs?after=x", 422, 'href="/"'),
        (stranger, "/no/such/page", 404, 'href="/sign-in"'),
    ):
        answer = await browser.get(path)
        assert answer.status_code == status, path
        [ways] = answer.text.split('<ul class="ways">')[1:]
        assert way in ways.partition("</ul>")[0], path
        assert gone not in ways, path
    refused = (await reader.get("/events/7")).text
    assert "needs the access rule host.event.read" in refused
    assert "Create a token" not in refused
    # One goes on from there: what is around the page is that of whoever is signed in.
    assert '<nav aria-label="Pages"' in (await admin.get("/no/such/page")).text
    assert '<nav aria-label="Pages"' not in (await stranger.get("/no/such/page")).text
    sent = await reader.act(f"{gone}/retry")
    assert sent.status_code == 403
    assert f'href="{gone}"' not in sent.text
    assert 'href="/jobs">Go to' in sent.text


def test_what_passes_is_waited_for() -> None:
    busy = ways_on(Problem(503), None, None, path="/", method="GET")
    assert busy.reload is not None
    assert ways_on(Problem(503), None, None, path="/", method="POST").reload is None
    often = ways_on(Problem(429, headers={"Retry-After": "7"}), None, None, path="/", method="POST")
    assert often.advice == "Wait 7 seconds, and do it again."
    for status in (403, 404, 409, 422):
        assert ways_on(Problem(status), None, None, path="/", method="GET").advice


async def test_who_cannot_sign_in_is_told_why(host: Host, browse: Browse) -> None:
    browser = await browse(host, signed_in=False)
    revoked, expired = [await token_of(host, name, ["probe.note.read"]) for name in ("revoked", "expired")]
    async with host.database.sessions.begin() as session:
        for name, column in (("revoked", "revoked_at"), ("expired", "expires_at")):
            change = f"UPDATE api_tokens SET {column} = now() - interval '1 hour' WHERE name = :name"
            await session.execute(text(change), {"name": name})
    for secret, words in (
        ("", "Enter a token."),
        ("rft_nobodys", "This token is not known here."),
        ("ünsinn<\ud800".encode("utf-8", "replace").decode(), "This token is not known here."),
        ("x" * 501, "This token is not known here."),
        (revoked, "This token was revoked, on "),
        (expired, "This token has expired, on "),
    ):
        answer = await browser.post("/sign-in", {"token": secret, "to": "/jobs"})
        assert answer.status_code == 401, words
        assert words in answer.text
        assert 'aria-invalid="true"' in answer.text
        assert 'value="/jobs"' in answer.text
        assert not secret or secret not in answer.text
    for _ in range(20):
        answer = await browser.sign_in("rft_nobodys")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "Too many invalid tokens came from this address" in answer.text
    assert '<input id="token"' in answer.text
