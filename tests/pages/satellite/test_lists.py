"""The list of satellites: who sees which, in which order, and how much of the table that reads."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from ringfence_satellite.protocol import SandboxPolicyApplied, WireDowngrade
from ringfence_satellite.server import lists
from ringfence_satellite.server.lists import Only, Sort
from sqlalchemy import event, text

from tests.pages.conftest import Browse, Browser
from tests.pages.satellite.conftest import MANAGE, READ, RUN
from tests.pages.test_pages import HOSTILE
from tests.satellite.conftest import StartInstance
from tests.satellite.instances import SATELLITES, Instance
from tests.waiting import in_time

MANY = 5000
_FLEET = text("""
    INSERT INTO satellite_satellites
           (id, name, region, tags, token_digest, offline_after_seconds, last_heartbeat_at, connected_at, goodbye_at,
            applied_revision)
    SELECT gen_random_uuid(), 'n' || lpad(n::text, 5, '0'), CASE WHEN n % 2 = 0 THEN 'eu' ELSE 'us' END,
           ARRAY['rack' || n % 10], sha256(n::text::bytea), 45,
           CASE WHEN n % 100 <> 0 THEN now() - make_interval(secs => n % 60) END, now(),
           CASE WHEN n % 77 = 0 THEN now() END, n % 5
      FROM generate_series(1, :many) AS n
""")


async def names(browser: Browser, query: str = "") -> list[str]:
    page = (await browser.get(f"/satellites{query}")).text
    return [
        unescape(one) for one in re.findall(r'<th scope="row"[^>]*><a href="[^"]+"><bdi>([^<]*)</bdi>', page)
    ]


async def every_name(browser: Browser, query: str) -> list[str]:
    """The names of all pages, each led to by the one before."""
    found, where = [], query
    for _ in range(10):
        page = (await browser.get(f"/satellites{where}")).text
        found += re.findall(r'<th scope="row"[^>]*><a href="[^"]+"><bdi>([^<]*)</bdi>', page)
        more = re.search(r'<a href="([^"]+)" rel="next">', page)
        if more is None:
            return found
        where = unescape(more[1])
    raise AssertionError("the list has no end")


async def test_satellites_are_found_filtered_and_sorted(instance: Instance, browse: Browse) -> None:
    one, two, three = [
        await instance.register(name, region=region, labels={"role": role})
        for name, region, role in (("berlin", "eu", "web"), ("Austin", "us", "api"), ("tokyo", "asia", "web"))
    ]
    everything, reader = await browse(instance.host), await browse(instance.host, rules=[READ])
    narrowed = await browse(instance.host, rules=[f"{READ} on role=web"])
    async with instance.connected(one) as peer, instance.connected(two):
        await peer.applied(0)
        await instance.until(one, lambda shown: shown["appliedRevision"] == 0)
        await instance.until(two, lambda shown: shown["status"] == "online")
        assert await names(reader) == ["Austin", "berlin", "tokyo"]
        assert await names(narrowed) == ["berlin", "tokyo"]
        assert await names(reader, "?sort=-name") == ["tokyo", "berlin", "Austin"]
        assert (await names(reader, "?sort=state"))[2] == "tokyo"
        assert (await names(reader, "?sort=-revision"))[0] == "berlin"
        assert (await names(reader, "?sort=seen"))[0] == "tokyo"
        assert await names(reader, "?q=BERL") == ["berlin"]
        assert await names(reader, "?q=us") == ["Austin"]
        assert await names(reader, "?q=role%3Dweb") == ["berlin", "tokyo"]
        assert await names(reader, "?q=%25") == []
        assert await names(reader, "?only=online") == ["Austin", "berlin"]
        assert await names(reader, "?only=never") == ["tokyo"]
        # One has not told yet which policy it goes by.
        assert await names(reader, "?only=behind") == ["Austin"]
        lacking = WireDowngrade(layer="network", reason="there is no /dev/net/tun")
        await peer.say(SandboxPolicyApplied(revision=0, enforced={"network": False}, downgrades=(lacking,)))
        await instance.until(one, lambda shown: bool(shown["downgrades"]))
        assert await names(reader, "?only=lacking") == ["berlin"]
        assert "not network" in (await reader.get("/satellites")).text
        async with instance.peer(replace(three, token="wrong")) as stranger:
            await stranger.closed()
        async with in_time("an agent was refused"):
            while await names(reader, "?only=refused") != ["tokyo"]:
                await asyncio.sleep(0.05)
        # A machine that is busy may have the overview leave out what took longer than a second.
        async with in_time("the overview tells of what is wrong"):
            while "cannot enforce the policy: berlin" not in (page := (await everything.get("/")).text):
                await asyncio.sleep(0.05)
        assert "an agent refused" in page
    assert "berlin" not in (await (await browse(instance.host, rules=["host.plugin.read"])).get("/")).text


async def test_each_page_is_for_who_may_see_it(instance: Instance, browse: Browse) -> None:
    satellite = await instance.register("berlin")
    reader, nobody = await browse(instance.host, rules=[READ]), await browse(instance.host, rules=[MANAGE])
    one = f"/satellites/{satellite.id}"
    for path in ("/satellites", one):
        assert (await reader.get(path)).status_code == 200
        assert (await nobody.get(path)).status_code == 403
    for path in ("/satellites/new", f"{one}/run"):
        assert (await reader.get(path)).status_code == 403
    page = (await reader.get(one)).text
    for hidden in ("Run a script", "Delete it", "Give it a new token", 'data-part="satellite.runs"'):
        assert hidden not in page
    assert (await reader.get("/satellites/8a6e0804-2bd0-4672-b79d-d97027f9071a")).status_code == 404
    assert (await reader.get("/satellites/no-id")).status_code == 404
    for query in ("sort=size", "only=good", "after=x", "sort=state&after=WyJzdGF0ZSIsICJ4IiwgInkiXQ"):
        assert (await reader.get(f"/satellites?{query}")).status_code == 422, query
    found = (await reader.get("/find?q=erl", accept="application/json")).json()["found"]
    assert [(each["words"], each["to"]) for each in found] == [("berlin", one)]
    assert (await nobody.get("/find?q=erl", accept="application/json")).json()["found"] == []


async def test_words_of_others_are_text_on_every_page(instance: Instance, browse: Browse) -> None:
    reader = await browse(instance.host, rules=[READ, RUN, "host.event.read"])
    for number, word in enumerate(one for one in HOSTILE if len(one) < 200 and "\x07" not in one):
        name = re.sub("[\u200b\u2028\u202e\u2066\ufeff]", "", word)  # what a name may have of it
        satellite = await instance.register(f"{name}{number}", tags=[name], vars={"v": word})
        for path in ("/satellites", f"/satellites/{satellite.id}", f"/satellites/{satellite.id}/run"):
            page = (await reader.get(path)).text
            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert "<h1>mine" not in page
            assert "\u202e" not in page
            assert "\u200b" not in page
    assert (await reader.get("/satellites?q=%3Cscript%3E")).status_code == 200


async def plan(instance: Instance, query: str, **values: Any) -> tuple[int, str]:
    """How many rows of the table are read for a query, and what PostgreSQL does for it."""
    async with instance.host.runtime.database.sessions() as session:
        explain = text(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}")
        (document,) = (await session.execute(explain, values)).one()
    rows = 0
    parts = [document[0]["Plan"]]
    while parts:
        part = parts.pop()
        parts += part.get("Plans", [])
        if part.get("Relation Name") == "satellite_satellites":
            rows += (part["Actual Rows"] + part.get("Rows Removed by Filter", 0)) * part["Actual Loops"]
    return round(rows), json.dumps(document)


@pytest.fixture
async def many(start_instance: StartInstance) -> Instance:
    instance = await start_instance()
    async with instance.host.runtime.database.sessions.begin() as session:
        await session.execute(_FLEET, {"many": MANY})
        await session.execute(text("ANALYZE satellite_satellites"))
    return instance


async def test_a_page_of_thousands_reads_no_more_than_it_shows(many: Instance, browse: Browse) -> None:
    limit = 51
    for sort in Sort:
        for descending in (False, True):
            async with many.host.runtime.database.sessions() as session:
                first = await lists.look_through(
                    session, sort=sort, descending=descending, revision=4, reach=None, after=None, limit=3000
                )
            assert len({one.satellite.name for one in first}) == 3000
            # Deep within the list: the page after the 3,000th.
            for after in (None, first[-1].cursor):
                key, name = (None, None) if after is None else lists.place(sort, after)
                query = lists.statement(
                    sort,
                    descending=descending,
                    searches=False,
                    only=None,
                    within=False,
                    goes_on=after is not None,
                )
                given: dict[str, Any] = {"limit": limit}
                if after is not None:
                    given |= {"key": key, "name": name}
                read, how = await plan(
                    many, query, **{one: value for one, value in given.items() if f":{one}" in query}
                )
                assert read <= limit, (sort, descending, after, read, how)
                assert "Sort" not in how, (sort, how)
    # Those that are rare are looked for in the whole table, once.
    query = lists.statement(
        Sort.NAME, descending=False, searches=True, only=Only.BEHIND, within=False, goes_on=False
    )
    read, _ = await plan(many, query, q="n04999", revision=4, limit=limit)
    assert read <= MANY
    browser = await browse(many.host, rules=[READ])
    assert len(await names(browser)) == 50
    assert (await names(browser, "?q=n04999")) == ["n04999"]


async def test_an_overview_counts_the_satellites_once(many: Instance, browse: Browse) -> None:
    counted: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FILTER (WHERE status = 'online')" in statement and "AS lacking" in statement:
            counted.append(statement)

    browser = await browse(many.host, rules=[READ])
    event.listen(many.host.database.engine.sync_engine, "before_cursor_execute", note)
    page = (await browser.get("/")).text
    assert "satellites online" in page
    assert re.search(r"\d+ satellites are offline: n", page)
    assert len(counted) == 1
    await browser.get("/")
    assert len(counted) == 2


async def test_every_satellite_is_on_one_page_in_each_order(instance: Instance, browse: Browse) -> None:
    async with instance.host.runtime.database.sessions.begin() as session:
        await session.execute(_FLEET, {"many": 250})
    browser = await browse(instance.host, rules=[READ])
    for sort in Sort:
        for sign in ("", "-"):
            found = await every_name(browser, f"?sort={sign}{sort}")
            assert len(found) == len(set(found)) == 250, (sort, sign)
    states = re.findall(
        r'<span class="state \w+">(online|offline|never connected)',
        "".join([(await browser.get("/satellites?sort=state")).text]),
    )
    assert states == sorted(states, key=["offline", "online", "never connected"].index)


async def test_the_list_is_as_it_is_in_the_api(instance: Instance, browse: Browse) -> None:
    await instance.register("berlin", labels={"role": "web"})
    (shown,) = (await instance.api.get(SATELLITES)).json()["satellites"]
    page = (await (await browse(instance.host, rules=[READ])).get("/satellites")).text
    for word in (shown["name"], shown["region"], "role=web", "never connected"):
        assert word in page
