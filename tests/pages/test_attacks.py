"""What somebody hostile sends to pages, or forgets to send: refused, and nothing of others' is lost by it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, cast

import pytest
from fastapi import Request
from ringfence.http.browsers import AllowedHosts
from ringfence.http.problems import Problem
from ringfence.pages import OutdatedFormError, exact, require_current, version_of
from ringfence.pages.live import MOST_PER_SESSION, MOST_PER_TOKEN, Feed
from ringfence.pages.requests import form_of, query_of
from ringfence.testing import RunHost
from starlette.types import Message

from tests.pages.conftest import Browse


@pytest.mark.parametrize(
    "host",
    [
        "evil@localhost",
        "localhost/api",
        "localhost?x",
        "localhost#x",
        "localhost, evil.test",
        "localhost:port",
        "localhost:8484:1",
        "[::1",
        "[localhost]",
        "::1",
        " localhost",
        "",
    ],
)
def test_what_is_no_host_alone_is_none_of_ours(host: str) -> None:
    assert not AllowedHosts(()).allow(host)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.:8484", "127.0.0.1:1", "[::1]:8484", "[::FFFF:10.0.0.1]"]
)
def test_our_names_and_all_addresses_are_ours(host: str) -> None:
    assert AllowedHosts(()).allow(host)


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.test"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
async def test_no_other_site_signs_anybody_out(
    run_host: RunHost, browse: Browse, headers: dict[str, str]
) -> None:
    """A browser sends no cookie along from there; an answer that deletes it would sign out all the same."""
    host = await run_host(plugins=[])
    without = await browse(host, signed_in=False)
    answer = await without.post("/sign-out", {}, **headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("number", [0.1, 45.0, 1234567.0, 604801.5, 1e300, 2**53 + 2.0, -3.25])
def test_a_number_in_a_form_is_read_as_the_same_number(number: float) -> None:
    assert float(exact(number)) == number


def test_a_form_is_outdated_once_what_it_showed_is_otherwise() -> None:
    shown = {"name": "a", "labels": "x"}
    form = {**shown, "seen": version_of(shown)}
    require_current(form, dict(reversed(shown.items())))
    for sent, now in ((form, {**shown, "labels": "y"}), ({**form, "seen": ""}, shown)):
        with pytest.raises(OutdatedFormError):
            require_current(sent, now)


def test_one_token_leaves_room_for_the_open_pages_of_others() -> None:
    feed = Feed(cast("Any", None))
    with ExitStack() as stack:
        for number in range(MOST_PER_TOKEN):
            session = f"session-{number // MOST_PER_SESSION}"
            feed.check_room(session, "greedy")
            stack.enter_context(feed.place(session, "greedy"))
        with pytest.raises(Problem):
            feed.check_room("another", "greedy")
        feed.check_room("mine", "modest")
    feed.check_room("another", "greedy")


async def test_no_sibling_site_puts_words_onto_our_pages(run_host: RunHost, browse: Browse) -> None:
    host = await run_host(plugins=[])
    browser = await browse(host, base="https://127.0.0.1")
    browser.http.cookies.set("ringfence-said", "Call%20this%20number")
    assert "Call this number" not in (await browser.get("/")).text
    answer = await browser.act("/this-host/again")
    said = [one for one in answer.headers.get_list("set-cookie") if "said" in one]
    assert said[0].startswith("__Host-ringfence-said="), said
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= set(said[0].split("; "))
    assert 'class="said"' in (await browser.get("/this-host")).text
    assert 'class="said"' not in (await browser.get("/this-host")).text


def request(query: bytes, body: bytes = b"") -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"host", b"localhost")]
    return Request(
        {"type": "http", "method": "POST", "path": "/a", "query_string": query, "headers": headers}, receive
    )


async def test_lines_end_as_everywhere_and_not_as_browsers_send_them() -> None:
    """A script whose lines end in CR LF is none for most interpreters."""
    form = await form_of(request(b"", b"script=%23!/bin/sh%0D%0Aecho+a%0D%0A%0D%0A&lone=a%0Db&tab=%09x%0A"))
    assert form == {"script": "#!/bin/sh\necho a\n\n", "lone": "a\nb", "tab": "\tx\n"}


def test_what_stands_in_a_path_is_no_query() -> None:
    assert query_of(request(b"q=a%3Fb%26c&after=%23")) == {"q": "a?b&c", "after": "#"}


async def test_every_answer_says_that_it_is_not_to_be_framed(run_host: RunHost, browse: Browse) -> None:
    browser = await browse(await run_host(plugins=[]))
    icon = (await browser.get("/")).text.partition('rel="icon" href="')[2].partition('"')[0]
    for path, status in (
        ("/", 200),
        (icon, 200),
        ("/assets/none.js", 404),
        ("/api/docs", 200),
        ("/api/openapi.json", 200),
        ("/api/host/status", 403),
        ("/find?q=a", 200),
        ("/events?after=%ff", 422),
        ("/none", 404),
        ("/plugins/%00", 404),
        ("/sign-out", 405),
        ("/healthz", 200),
    ):
        for accept in ("text/html", "application/json"):
            answer = await browser.get(path, accept=accept)
            assert answer.status_code == status, path
            assert answer.headers["x-frame-options"] == "DENY", path
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
            assert answer.headers["x-content-type-options"] == "nosniff", path
