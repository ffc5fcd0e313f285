"""What somebody has entered outlives their session: it stands on the page that says so, to be sent again."""

from __future__ import annotations

import html
import re

import httpx
import pytest
from ringfence.host import Host
from ringfence.testing import RunHost

from tests.pages.conftest import Browse, admin_token

FIELDS = {"name": "kept-one", "rules": 'two\nlines "and" <b>'}


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[])


def hidden(page: httpx.Response) -> dict[str, str]:
    """The fields of the form that sends it again."""
    form = page.text[page.text.index("<main") : page.text.index("</main>")]
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form)
    return {html.unescape(name): html.unescape(value) for name, value in found}


async def test_what_was_entered_in_a_session_that_has_ended_is_sent_once_somebody_signs_in_again(
    host: Host, browse: Browse
) -> None:
    browser = await browse(host)
    before = {"csrf": await browser.csrf(), **FIELDS}
    browser.http.cookies.clear()
    ended = await browser.post("/tokens?x=1", before)
    assert ended.status_code == 401
    assert "what you entered is kept" in ended.text
    assert 'action="/tokens?x=1"' in ended.text
    assert "<b>" not in ended.text
    assert hidden(ended) == FIELDS

    assert (await browser.sign_in(admin_token(host))).status_code == 303
    stale = await browser.post("/tokens?x=1", hidden(ended))
    assert stale.status_code == 403, "nothing is done by a form of a session before"
    assert "out of date" in stale.text
    assert hidden(stale) == {"csrf": await browser.csrf(), **FIELDS}
    sent = await browser.post("/tokens", hidden(stale))
    assert sent.status_code == 422
    assert "kept-one" in sent.text


async def test_what_another_site_has_entered_is_not_offered_to_anybody(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    for foreign in ({"origin": "https://elsewhere.example"}, {"origin": "null"}):
        for _ in range(2):
            answer = await browser.post("/tokens", FIELDS, **foreign)
            assert answer.status_code in (401, 403)
            assert "kept-one" not in answer.text
            browser.http.cookies.clear()
        assert (await browser.sign_in(admin_token(host))).status_code == 303
    unsaid = await browser.http.post("/tokens", data=FIELDS)
    assert unsaid.status_code == 403
    assert "kept-one" not in unsaid.text
