"""The list of checks: the worst first, searched, filtered, page by page, and kept as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ringfence.host import Host
from ringfence.testing import client
from sqlalchemy import event, text

from tests.pages.checks.conftest import MANAGE, READ, Fleet
from tests.pages.conftest import Browse
from tests.pages.test_pages import HOSTILE

ALL = 2_000
SATELLITES = 5_000


def names_in(page: str) -> list[str]:
    return re.findall(r'<th scope="row"[^>]*><a href="/checks/[^"]+"><bdi>(.*?)</bdi>', page)


@contextmanager
def statements(host: Host) -> Iterator[list[str]]:
    """What the database is asked of checks meanwhile; what the leader looks after by itself is left out."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "health_checks_" in statement and "FOR NO KEY" not in statement:
            asked.append(statement)

    engine = host.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def test_the_worst_come_first_and_each_filter_leaves_what_it_says(fleet: Fleet, browse: Browse) -> None:
    edge = await fleet.register("edge-1", tags=["env=prod"])
    fine = await fleet.create(name="fine", system="db")
    bad = await fleet.create(name="very-bad")
    slow = await fleet.create(name="slow", runsOn={"core": True, "satellites": [edge]})
    await fleet.create(name="off", enabled=False)
    await fleet.create(name="waiting")
    await fleet.report(fine, "healthy", "all good")
    await fleet.report(bad, "unhealthy", "no room left")
    await fleet.report(slow, "healthy", "quick here")
    await fleet.report(slow, "degraded", "slow there", place=edge)
    browser = await browse(fleet.host)
    page = (await browser.get("/checks")).text
    assert names_in(page) == ["very-bad", "waiting", "slow", "fine", "off"]
    assert "no room left" in page
    assert "slow there" in page
    assert "quick here" not in page
    assert "1 degraded" in page

    async def found(query: str) -> list[str]:
        return names_in((await browser.get(f"/checks?{query}")).text)

    assert await found("q=BAD%20web-1") == ["very-bad"]
    assert await found("state=healthy") == ["fine"]
    assert await found("state=disabled") == ["off"]
    assert await found("system=db") == ["fine"]
    assert await found("label=env%3Dprod") == ["slow"]
    assert await found("place=edge-1") == ["slow"]
    assert await found("place=core&state=healthy") == ["fine", "slow"]
    assert await found("q=nothing-of-the-kind") == []
    assert "there is no such place" in (await browser.get("/checks?place=nowhere")).text
    assert "there is no such state" in (await browser.get("/checks?state=excellent")).text
    assert (await browser.get("/checks?after=x")).status_code == 422


async def test_a_list_has_one_page_after_another_and_each_asks_the_database_as_little(
    fleet: Fleet, browse: Browse
) -> None:
    await fleet.create(name="like-this")
    async with fleet.host.database.sessions.begin() as session:
        # Nobody is told of these, so that the leader does not find that there are no such satellites.
        await session.execute(
            text("""
                INSERT INTO health_checks_checks (id, name, definition, created_by, updated_by)
                SELECT gen_random_uuid(), 'check-' || number,
                       definition || jsonb_build_object('name', 'check-' || number), 'test', 'test'
                  FROM health_checks_checks, generate_series(0, :last) AS number
            """),
            {"last": ALL - 1},
        )
        one = (
            await session.execute(text("SELECT id FROM health_checks_checks WHERE name = 'check-0'"))
        ).scalar_one()
        await session.execute(
            text("""
                INSERT INTO health_checks_latest
                       (check_id, ran_on, status, message, executed_at, placed_at, grace_seconds, place_name)
                SELECT id, 'core', 'healthy', 'fine', now(), now(), 600, 'core' FROM health_checks_checks
                 WHERE name LIKE 'check-%' AND id <> :one
                 UNION ALL
                SELECT :one, gen_random_uuid()::text, 'unhealthy', 'down', now(), now(), 600, 'edge-' || number
                  FROM generate_series(1, :satellites) AS number
            """),
            {"one": one, "satellites": SATELLITES},
        )
    browser = await browse(fleet.host)
    seen: list[str] = []
    path, asked_for = "/checks", []
    while True:
        with statements(fleet.host) as asked:
            page = (await browser.get(path)).text
        asked_for.append(len(asked))
        seen += names_in(page)
        following = re.search(r'<a href="(\?[^"]*after=[^"]*)" rel="next"', page)
        if following is None:
            break
        path = f"/checks{following[1].replace('&amp;', '&')}"
        if len(asked_for) == 3:
            break
    assert seen[0] == "check-0"
    assert f"{SATELLITES} unhealthy" in (await browser.get("/checks")).text
    assert len(seen) == len(set(seen)) == 150
    assert seen[1] == "like-this"
    assert seen[2:] == sorted(seen[2:])
    assert max(asked_for) == 1
    with statements(fleet.host) as asked:
        await browser.get(f"/checks/{one}")
    assert len(asked) <= 30


async def test_what_one_may_not_do_is_not_shown_and_nothing_of_others_is_markup(
    fleet: Fleet, browse: Browse
) -> None:
    name = HOSTILE[0]
    check = await fleet.create(name=name, system=HOSTILE[1])
    await fleet.report(check, "unhealthy", "".join(one[:40] for one in HOSTILE))
    manager, reader, nobody = [
        await browse(fleet.host, rules=rules) for rules in (MANAGE, READ, ["host.plugin.read"])
    ]
    assert "New check" in (await manager.get("/checks")).text
    page = (await reader.get("/checks")).text
    assert 'href="/checks/new"' not in page
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert 'href="/checks"' not in (await nobody.get("/")).text
    for path in ("/checks", f"/checks/{check}", "/checks/newest", f"/checks/{check}/newest"):
        assert (await nobody.get(path)).status_code == 403, path
    assert (await browse_out(browse, fleet.host)).startswith("/sign-in")


async def browse_out(browse: Browse, host: Host) -> str:
    """Where somebody is led who is not signed in."""
    browser = await browse(host, signed_in=False)
    return (await browser.get("/checks")).headers["location"]


async def test_a_list_finds_by_words_in_any_case_and_says_since_when_each_is_so(
    fleet: Fleet, browse: Browse
) -> None:
    names = {"ÄGYPTEN": "healthy", "Zebra": "unhealthy", "apple": "degraded", "mango": "healthy"}
    for name, status in names.items():
        await fleet.report(await fleet.create(name=name, system="Über"), status, ago=60.0)
    await fleet.create(name="off", system="b", enabled=False)
    browser = await browse(fleet.host)
    for words in ("ägy", "ÄGY über", "ÜBER ypten"):
        found = await browser.http.get("/checks", params={"q": words})
        assert names_in(found.text) == ["ÄGYPTEN"], words
        assert "1 check match" in found.text, words
    whole = (await browser.get("/checks")).text
    assert names_in(whole) == ["Zebra", "apple", "mango", "ÄGYPTEN", "off"]
    assert re.findall(r'<option value="([^"]*)"></option>', whole) == ["b", "Über"]
    rows = re.findall(r"<tr[^>]*>\n<th.*?</tr>", whole, re.S)
    assert [row.count("<time") for row in rows] == [2, 2, 2, 2, 0]
    assert "5 checks, the worst first" in whole
    assert names_in((await browser.get("/checks?state=healthy&system=b")).text) == []


async def test_an_open_list_is_told_when_it_is_another(fleet: Fleet, browse: Browse) -> None:
    check = await fleet.create(name="disk")
    browser = await browse(fleet.host)
    page = (await browser.get("/checks")).text
    (seen,) = re.findall(r'data-fresh="/checks/newest" data-seen="(\w+)"', page)
    assert (await browser.get("/checks/newest")).text == seen
    await fleet.report(check, "unhealthy", "full")
    now = (await browser.get("/checks/newest")).text
    assert now != seen
    assert f'data-seen="{now}"' in (await browser.get("/checks?fragment=/checks")).text


async def test_the_overview_tells_of_what_fails_and_the_palette_finds_checks(
    fleet: Fleet, browse: Browse
) -> None:
    for number in range(7):
        await fleet.report(await fleet.create(name=f"web-{number}"), "unhealthy", "down")
    quiet = await fleet.create(name="quiet-one")
    await fleet.report(quiet, "unhealthy", "down")
    async with client(fleet.host) as api:
        body = {"check": quiet, "forSeconds": 60.0, "reason": "known"}
        assert (await api.post("/api/health-checks/silences", json=body)).status_code == 201
    manager, reader, nobody = [
        await browse(fleet.host, rules=rules) for rules in (MANAGE, READ, ["host.plugin.read"])
    ]
    page = (await reader.get("/")).text
    assert "Check web-0 has been unhealthy for" in page
    assert "2 more checks are unhealthy" in page
    assert "Check quiet-one" not in page
    assert "checks unhealthy" in page
    assert "results in the last hour" in page
    assert "web-0" not in (await nobody.get("/")).text
    found = (await manager.get("/find?q=WEB-3")).json()["found"]
    assert [one["words"] for one in found] == ["web-3", "Silence web-3 for 1 h"]
    assert [one["words"] for one in (await reader.get("/find?q=web-3")).json()["found"]] == ["web-3"]
    silencing = (await manager.get("/find?q=silence%20web-5")).json()["found"]
    assert [one["words"] for one in silencing] == ["Silence web-5 for 1 h"]
    assert 'value="3600" selected' in (await manager.get(silencing[0]["to"])).text
    longer = (await manager.get("/find?q=silence%20web-5%20for%202%20h")).json()["found"]
    assert [one["words"] for one in longer] == ["Silence web-5 for 2 h"]
    assert 'value="7200" selected' in (await manager.get(longer[0]["to"])).text
    for typed in ("silence web-5 for", "Silence web-5 for 1", "silen web-5"):
        begun = (await manager.http.get("/find", params={"q": typed})).json()["found"]
        assert [one["words"] for one in begun] == ["Silence web-5 for 1 h"], typed
    assert (await nobody.get("/find?q=web")).json()["found"] == []


@pytest.mark.parametrize("id", ["x", "00000000-0000-0000-0000-000000000000"])
async def test_there_is_no_page_of_a_check_that_there_is_not(fleet: Fleet, browse: Browse, id: str) -> None:
    browser = await browse(fleet.host)
    for path in ("", "/edit", "/places", "/silence"):
        assert (await browser.get(f"/checks/{id}{path}")).status_code == 404, path


async def test_all_checks_of_a_satellite_are_silenced_at_once(fleet: Fleet, browse: Browse) -> None:
    edge = await fleet.register("Edge-1")
    check = await fleet.create(name="disk", runsOn={"satellites": [edge]})
    await fleet.report(check, "healthy", place=edge)
    admin, reader = (
        await browse(fleet.host),
        await browse(fleet.host, rules=[*READ, "satellite.satellite.read"]),
    )
    (found,) = (await admin.http.get("/find", params={"q": "silence Edge-1 for 30 min"})).json()["found"]
    assert found["words"] == "Silence all checks on Edge-1 for 30 min"
    form = await admin.get(found["to"])
    assert 'value="1800" selected' in form.text
    path = f"/satellites/{edge}/silence"
    assert path in (await admin.get(f"/satellites/{edge}")).text
    assert path not in (await reader.get(f"/satellites/{edge}")).text
    assert (await reader.get(path)).status_code == 403
    for wrong in ({"for": "1800", "reason": " "}, {"for": "x", "reason": "moves"}):
        refused = await admin.act(path, **wrong)
        assert (refused.status_code, 'id="error-reason"' in refused.text) == (422, True)
    assert (await admin.act(path, **{"for": "1800", "reason": "moves"})).status_code == 303
    assert "silenced" in (await admin.get(f"/checks/{check}")).text
    (end,) = re.findall(f'action="(/satellites/{edge}/silences/[^"]+/end)"', (await admin.get(path)).text)
    assert (await admin.act(f"/satellites/{edge}/silences/x/end")).status_code == 404
    assert (await admin.act(end)).status_code == 303
    assert "Silences of this satellite" not in (await admin.get(path)).text
    assert (await admin.get("/satellites/00000000-0000-0000-0000-000000000000/silence")).status_code == 404
