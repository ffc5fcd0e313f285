"""Signing in: sessions that are worth what their token is worth, and forms that only our own pages can send."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from ringfence.host import Host
from ringfence.testing import RunHost, client
from sqlalchemy import text

from tests.pages.conftest import Browse, admin_token, token_of

PLUGINS = "/api/host/plugins"


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[])


def cookie(answer: httpx.Response) -> str:
    return next(
        one for one in answer.headers.get_list("set-cookie") if "ringfence=" in one.partition(";")[0] + "="
    )


async def test_a_token_signs_in_and_out(host: Host, browse: Browse) -> None:
    browser = await browse(host, signed_in=False)
    asked = await browser.get("/plugins")
    assert (asked.status_code, asked.headers["location"]) == (303, "/sign-in?to=%2Fplugins")
    began = await browser.post("/sign-in", {"token": admin_token(host), "to": "/plugins"})
    assert (began.status_code, began.headers["location"]) == (303, "/plugins")
    assert (await browser.get("/plugins")).status_code == 200
    kept = browser.http.cookies["ringfence"]
    assert (await browser.act("/sign-out")).headers["location"] == "/sign-in"
    assert "ringfence" not in browser.http.cookies
    browser.http.cookies.set("ringfence", kept)
    asked = await browser.get("/plugins")
    assert (asked.status_code, asked.headers["location"]) == (303, "/sign-in?to=%2Fplugins&ended=yes")
    said = (await browser.get(asked.headers["location"])).text
    assert "You are signed out: your session has ended." in said
    assert "You are signed out" not in (await browser.get("/sign-in")).text


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(host: Host, browse: Browse) -> None:
    plain = await (await browse(host, signed_in=False)).sign_in(admin_token(host))
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie(plain).split("; "))
    assert "Secure" not in cookie(plain).split("; ")
    secure = await (await browse(host, signed_in=False, base="https://127.0.0.1")).sign_in(admin_token(host))
    assert secure.headers["set-cookie"].startswith("__Host-ringfence=")
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/"} <= set(
        secure.headers["set-cookie"].split("; ")
    )


async def test_signing_in_again_ends_the_session_before(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    before = browser.http.cookies["ringfence"]
    await browser.sign_in(admin_token(host))
    assert browser.http.cookies["ringfence"] != before
    browser.http.cookies.set("ringfence", before)
    assert (await browser.get("/")).status_code == 303


async def test_a_secret_that_somebody_has_planted_is_never_taken_over(host: Host, browse: Browse) -> None:
    browser = await browse(host, signed_in=False)
    browser.http.cookies.set("ringfence", "planted")
    began = await browser.sign_in(admin_token(host))
    assert "planted" not in began.headers["set-cookie"]


async def test_a_session_may_what_its_token_may_at_that_moment(host: Host, browse: Browse) -> None:
    secret = await token_of(host, "ann", ["host.plugin.read", "host.job.read"])
    browser = await browse(host, signed_in=False)
    await browser.sign_in(secret)
    page = (await browser.get("/jobs")).text
    assert 'href="/plugins"' in page
    assert 'href="/tokens"' not in page
    async with client(host) as admin:
        await admin.patch("/api/host/tokens/ann", json={"rules": ["host.plugin.read"]})
        refused = await browser.get("/jobs")
        assert refused.status_code == 403
        assert "host.job.read" in refused.text
        assert 'href="/jobs"' not in (await browser.get("/plugins")).text
        await admin.delete("/api/host/tokens/ann")
    assert (await browser.get("/plugins")).status_code == 303


async def test_a_session_is_as_good_on_every_instance(run_host: RunHost, browse: Browse) -> None:
    first, second = await run_host(plugins=[]), await run_host(plugins=[])
    secret = await token_of(first, "ann", ["host.plugin.read"])
    one, other = await browse(first, signed_in=False), await browse(second, signed_in=False)
    await one.sign_in(secret)
    other.http.cookies = one.http.cookies
    assert (await other.get("/plugins")).status_code == 200
    async with client(first) as admin:
        await admin.delete("/api/host/tokens/ann")
    assert (await other.get("/plugins")).status_code == 303


@pytest.mark.parametrize("column", ["used_at", "created_at"])
async def test_a_session_ends_when_its_time_is_over(host: Host, browse: Browse, column: str) -> None:
    browser = await browse(host)
    async with host.database.sessions.begin() as session:
        hours = host.settings.session_idle_hours if column == "used_at" else host.settings.session_hours
        await session.execute(
            text(f"UPDATE browser_sessions SET {column} = now() - make_interval(secs => :s)"),
            {"s": hours * 3600},
        )
    assert (await browser.get("/")).status_code == 303


async def test_sessions_are_listed_and_ended(host: Host, browse: Browse) -> None:
    browser, mine = await browse(host, rules=["host.plugin.read"]), await browse(host)
    async with client(host) as admin:
        listed = (await admin.get("/api/host/sessions")).json()["sessions"]
        assert [one["peer"] for one in listed] == ["192.0.2.1", "192.0.2.1"]
        assert browser.http.cookies["ringfence"] not in str(listed)
        ended = await admin.delete(f"/api/host/sessions/{listed[0]['id']}")
        assert ended.status_code == 204
        again = await admin.delete(f"/api/host/sessions/{listed[0]['id']}")
        assert again.status_code == 404
    assert (await browser.get("/")).status_code == 303
    assert (await mine.act(f"/sessions/{listed[1]['id']}/end")).status_code == 303
    assert (await mine.get("/")).status_code == 303


async def test_without_the_right_one_sees_and_ends_ones_own_sessions_alone(
    host: Host, browse: Browse
) -> None:
    other, mine = await browse(host), await browse(host, rules=["host.plugin.read"])
    page = (await mine.get("/sessions")).text
    assert page.count("/end") == 1
    async with client(host) as admin:
        [theirs, _] = (await admin.get("/api/host/sessions")).json()["sessions"]
    assert (await mine.act(f"/sessions/{theirs['id']}/end")).status_code == 404
    assert (await other.get("/")).status_code == 200


async def test_who_guesses_has_to_wait_and_is_told_for_how_long(host: Host, browse: Browse) -> None:
    browser = await browse(host, signed_in=False, peer="192.0.2.66")
    answers = [await browser.sign_in(f"rft_{number}") for number in range(22)]
    assert answers[0].status_code == 401
    assert "not known" in answers[0].text
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert "try again in" in answers[-1].text
    assert (await browser.get("/sign-in/guess", **OPENED)).status_code == 429
    elsewhere = await browse(host, signed_in=False, peer="192.0.2.67")
    assert (await elsewhere.sign_in(admin_token(host))).status_code == 303


async def test_one_token_begins_only_so_many_sessions(host: Host, browse: Browse) -> None:
    browsers = [await browse(host, signed_in=False, peer=f"192.0.2.{number}") for number in range(22)]
    answers = [(await one.sign_in(admin_token(host))).status_code for one in browsers]
    assert answers[0] == 303
    assert answers[-1] == 429


OPENED = {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}


async def link(host: Host, **more: str | None) -> str:
    async with client(host, **more) as admin:
        made = await admin.post("/api/host/sessions/links")
    assert made.status_code == 201, made.text
    return str(made.json()["path"])


async def test_a_link_signs_in_once(host: Host, browse: Browse) -> None:
    path = await link(host)
    browser, late = await browse(host, signed_in=False), await browse(host, signed_in=False)
    assert (await browser.get(path, **OPENED)).status_code == 303
    assert (await browser.get("/")).status_code == 200
    assert (await late.get(path, **OPENED)).status_code == 401


async def test_many_who_follow_one_link_at_once_are_one(host: Host, browse: Browse) -> None:
    path = await link(host)
    browsers = [await browse(host, signed_in=False) for _ in range(5)]
    answers = await asyncio.gather(*(one.get(path, **OPENED) for one in browsers))
    assert sorted(one.status_code for one in answers) == [303, 401, 401, 401, 401]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {**OPENED, "sec-purpose": "prefetch"},
    ],
)
async def test_what_looks_at_a_link_for_others_does_not_use_it_up(
    host: Host, browse: Browse, headers: dict[str, str]
) -> None:
    path = await link(host)
    browser = await browse(host, signed_in=False)
    shown = await browser.get(path, **headers)
    assert shown.status_code == 200
    assert "set-cookie" not in shown.headers
    assert (await browser.post(path, origin="http://elsewhere.test")).status_code == 403
    assert (await browser.post(path)).status_code == 303


async def test_a_link_holds_no_longer_than_it_says_and_no_longer_than_its_token(
    host: Host, browse: Browse
) -> None:
    browser = await browse(host, signed_in=False)
    old = await link(host)
    async with host.database.sessions.begin() as session:
        await session.execute(text("UPDATE sign_in_links SET expires_at = now()"))
    assert (await browser.get(old, **OPENED)).status_code == 401
    secret = await token_of(host, "ann", ["host.plugin.read"])
    anns = await link(host, token=secret)
    async with client(host) as admin:
        await admin.delete("/api/host/tokens/ann")
    assert (await browser.get(anns, **OPENED)).status_code == 401


async def test_no_session_makes_links(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    made = await browser.http.post("/api/host/sessions/links", headers={"x-csrf-token": await browser.csrf()})
    assert made.status_code == 401


@pytest.mark.parametrize(
    "to", ["//evil.test", "/\\evil.test", "https://evil.test", "/a\r\nb: c", "javascript:1", ""]
)
async def test_signing_in_leads_to_no_other_host(host: Host, browse: Browse, to: str) -> None:
    browser = await browse(host, signed_in=False)
    began = await browser.post("/sign-in", {"token": admin_token(host), "to": to})
    assert (began.status_code, began.headers["location"]) == (303, "/")
    assert (await browser.http.get("/sign-in", params={"to": to})).headers["location"] == "/"


FOREIGN = [
    {"origin": "http://evil.test"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": "https://127.0.0.1:8484"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_no_other_page_sends_a_form_of_ours(
    host: Host, browse: Browse, headers: dict[str, str]
) -> None:
    browser, before = await browse(host), await browse(host, signed_in=False)
    fields = {"csrf": await browser.csrf(), "name": "x", "lasts": "", "rule:host.plugin.read": "yes"}
    assert (await browser.post("/tokens", fields, **headers)).status_code == 403
    assert (await browser.post("/sign-out", fields, **headers)).status_code == 403
    assert (await before.post("/sign-in", {"token": admin_token(host)}, **headers)).status_code == 403
    assert (await browser.post("/tokens", fields)).status_code == 201


async def test_a_form_without_its_text_is_refused(host: Host, browse: Browse) -> None:
    browser, other = await browse(host), await browse(host)
    fields = {"name": "x", "lasts": "", "rule:host.plugin.read": "yes"}
    for given in ({}, {"csrf": ""}, {"csrf": "ünsinn"}, {"csrf": await other.csrf()}):
        assert (await browser.post("/tokens", {**fields, **given})).status_code == 403
    nowhere = await browser.http.post("/sign-in", data={"token": admin_token(host)})
    assert nowhere.status_code == 403


async def test_scripts_of_our_pages_use_the_api_by_the_session_and_others_do_not(
    host: Host, browse: Browse
) -> None:
    browser = await browse(host)
    csrf = {"x-csrf-token": await browser.csrf()}
    assert (await browser.get(PLUGINS)).status_code == 403
    assert (await browser.get(PLUGINS, **csrf)).status_code == 200
    assert (await browser.get(PLUGINS, **csrf, **{"sec-fetch-site": "same-site"})).status_code == 403
    made = await browser.http.post(
        "/api/host/tokens",
        json={"name": "x", "rules": ["host.plugin.read"]},
        headers={**csrf, "origin": browser.origin},
    )
    assert made.status_code == 201
    refused = await browser.http.delete("/api/host/tokens/x", headers={**csrf, "origin": "http://evil.test"})
    assert refused.status_code == 403


async def test_a_token_that_is_sent_counts_and_not_the_session(host: Host, browse: Browse) -> None:
    browser = await browse(host)
    assert (await browser.get(PLUGINS, authorization="Bearer nobody's")).status_code == 401


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("evil.test", 421),
        ("127.0.0.1.evil.test", 421),
        ("localhost", 303),
        ("[::1]:8484", 303),
        ("10.0.0.1", 303),
    ],
)
async def test_only_our_own_names_lead_to_pages(host: Host, browse: Browse, name: str, status: int) -> None:
    browser = await browse(host, signed_in=False)
    assert (await browser.get("/", host=name)).status_code == status
    if status == 421:
        signed_in = await browse(host)
        csrf = await signed_in.csrf()
        assert (await signed_in.get(PLUGINS, **{"host": name, "x-csrf-token": csrf})).status_code == 421
    assert (await browser.get("/healthz", host=name)).status_code == 200


async def test_a_name_is_ours_if_the_operator_says_so(run_host: RunHost, browse: Browse) -> None:
    host = await run_host(plugins=[], allowed_hosts="ringfence.example, other.example")
    browser = await browse(host, base="https://ringfence.example")
    assert (await browser.get("/")).status_code == 200


async def test_the_record_of_access_says_who_signed_in_and_out(run_host: RunHost, browse: Browse) -> None:
    host = await run_host(plugins=[], records_access=True)
    browser = await browse(host)
    await browser.act("/sign-out")
    async with client(host) as admin:
        events = (await admin.get("/api/host/events", params={"stream": "access"})).json()["events"]
    hooks = [one["hook"] for one in events]
    assert hooks.index("access-session-began") < hooks.index("access-session-ended")
