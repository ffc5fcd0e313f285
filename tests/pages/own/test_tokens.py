"""Tokens are made with rules that are chosen, shown once, narrowed and revoked; sessions are listed and ended."""

from __future__ import annotations

import re

import pytest
from ringfence.host import Host
from ringfence.testing import RunHost

from tests.pages.conftest import Browse, Browser, token_of
from tests.pages.own.probe import Probe

MAKER = ["host.token.manage", "probe.note.read", "probe.note.write on env=dev"]


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[Probe()])


def secret_in(page: str) -> str:
    found = re.search('<code class="secret">(rft_[^<]+)</code>', page)
    assert found is not None
    return found[1]


async def rules_of(browser: Browser) -> list[str]:
    page = (await browser.get("/")).text
    return re.findall('<a href="(/[a-z-]*)"', page)


async def test_a_token_holds_what_was_chosen_and_is_shown_once(host: Host, browse: Browse) -> None:
    admin = await browse(host)
    form = (await admin.get("/tokens/new")).text
    assert "Read &lt;notes&gt;" in form
    assert 'name="on:probe.note.write"' in form
    assert 'name="on:probe.note.read"' not in form
    chosen = {
        "rule:host.job.read": "yes",
        "rule:probe.note.write": "yes",
        "on:probe.note.write": "env=dev,web or a=b",
    }
    made = await admin.act("/tokens", name="<i>ci", lasts="3600", **chosen)
    assert made.status_code == 201
    assert "&lt;i&gt;ci" in made.text
    assert "probe.note.write on env=dev,web" in made.text
    assert "probe.note.write on a=b" in made.text
    secret = secret_in(made.text)
    assert secret not in (await admin.get("/tokens?all=yes")).text
    principal = await host.access.authenticate(secret)
    assert principal is not None
    assert principal.rules == {"host.job.read"}
    assert {str(grant) for grant in principal.narrowed} == {
        "probe.note.write on env=dev,web",
        "probe.note.write on a=b",
    }
    owner = await browse(host, signed_in=False)
    assert (await owner.sign_in(secret)).status_code == 303
    assert (await owner.get("/jobs")).status_code == 200
    assert (await owner.get("/tokens")).status_code == 403

    id = re.search(r'href="/tokens/([0-9a-f-]{36})">Open the token', made.text)
    assert id is not None
    page = (await admin.get(f"/tokens/{id[1]}")).text
    assert 'value="a=b or env=dev,web"' in page
    assert page.count(" checked") == 2
    nothing = await admin.act(f"/tokens/{id[1]}/narrow")
    assert (nothing.status_code, "revoke the token" in nothing.text) == (422, True)
    more = await admin.act(f"/tokens/{id[1]}/narrow", **{"rule:host.job.manage": "yes"})
    assert (more.status_code, "does not hold: host.job.manage" in more.text) == (422, True)
    less = {"rule:probe.note.write": "yes", "on:probe.note.write": "env=dev,web"}
    assert (await admin.act(f"/tokens/{id[1]}/narrow", **less)).status_code == 303
    assert (await owner.get("/jobs")).status_code == 403
    assert (await owner.act(f"/tokens/{id[1]}/revoke")).status_code == 403
    assert (await admin.act(f"/tokens/{id[1]}/revoke")).status_code == 303
    assert (await owner.get("/")).headers["location"] == "/sign-in?ended=yes"
    assert (await admin.act(f"/tokens/{id[1]}/revoke")).status_code == 404
    assert "No token matches." in (await admin.get("/tokens?q=ci")).text
    assert "revoked" in (await admin.get("/tokens?q=ci&all=yes")).text
    assert "What it was allowed" in (await admin.get(f"/tokens/{id[1]}")).text


async def test_what_cannot_be_made_is_told_beside_its_field_and_the_rest_is_kept(
    host: Host, browse: Browse
) -> None:
    maker = await browse(host, rules=MAKER)
    form = (await maker.get("/tokens/new")).text
    assert 'name="rule:host.job.read"' not in form
    assert "You hold this rule only on env=dev" in form
    read = {"rule:probe.note.read": "yes"}
    wide = {"rule:probe.note.write": "yes", "on:probe.note.write": ""}
    for fields, words in (
        ({"name": "", "lasts": "", **read}, "A token has a name"),
        ({"name": "x" * 201, "lasts": "", **read}, "A token has a name"),
        ({"name": "keep me", "lasts": ""}, "Choose at least one access rule."),
        ({"name": "keep me", "lasts": "7", **read}, "Choose for how long"),
        ({"name": "keep me", "lasts": "", **wide}, "lacks: probe.note.write"),
        ({"name": "keep me", "lasts": "", "rule:host.job.read": "yes"}, "lacks: host.job.read"),
        ({"name": "keep me", "lasts": "", "rule:no.such.rule": "yes"}, "no such access rule"),
        ({"name": "keep me", "lasts": "", **read, "on:probe.note.read": "a=b"}, "cannot be narrowed"),
        ({"name": "keep me", "lasts": "", **wide, "on:probe.note.write": "two words"}, "labels"),
    ):
        answer = await maker.act("/tokens", **fields)
        assert answer.status_code == 422, fields
        assert words in answer.text, fields
        if fields["name"] == "keep me":
            assert 'value="keep me"' in answer.text
            offered = {"rule:probe.note.read", "rule:probe.note.write"}
            assert ('value="yes" checked' in answer.text) == bool(offered & fields.keys())
    taken = {"name": "keep me", "lasts": "", **read}
    assert (await maker.act("/tokens", **taken)).status_code == 201
    twice = await maker.act("/tokens", **taken)
    assert (twice.status_code, "already exists" in twice.text) == (422, True)
    assert (await maker.post("/tokens", taken)).status_code == 403


async def test_the_last_who_may_make_tokens_is_told_why_it_stays(host: Host, browse: Browse) -> None:
    admin = await browse(host)
    id = re.search(r'href="/tokens/([0-9a-f-]{36})"', (await admin.get("/tokens?q=admin")).text)
    assert id is not None
    refused = await admin.act(f"/tokens/{id[1]}/revoke")
    assert (refused.status_code, "is the last token" in refused.text) == (409, True)
    assert f'href="/tokens/{id[1]}"' in refused.text
    for nothing in ("x", "00000000-0000-0000-0000-000000000000"):
        assert (await admin.get(f"/tokens/{nothing}")).status_code == 404


async def test_everyone_ends_their_own_sessions_and_who_may_those_of_others(
    host: Host, browse: Browse
) -> None:
    secret = await token_of(host, "<u>me", ["probe.note.read"])
    here, there = await browse(host, signed_in=False), await browse(host, signed_in=False)
    for one in (here, there):
        await one.sign_in(secret)
    other, admin = await browse(host, rules=["probe.note.read"]), await browse(host)
    page = (await here.get("/sessions")).text
    assert page.count("&lt;u&gt;me") >= 2
    assert page.count("this browser") == 1
    ends = re.findall('action="(/sessions/[^"]+/end)"', page)
    assert len(ends) == 2
    assert (await other.act(ends[0])).status_code == 404
    assert len(re.findall('action="(/sessions/[^"]+/end)"', (await admin.get("/sessions")).text)) == 4
    for end in ends:
        assert (await admin.act(end)).status_code == 303
    assert (await here.get("/")).status_code == (await there.get("/")).status_code == 303
    assert (await admin.act("/sessions/x/end")).status_code == 404
