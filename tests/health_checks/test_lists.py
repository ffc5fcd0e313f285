"""Lists of checks and results: page by page, without what is long, and read by an index."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ringfence.testing import client
from sqlalchemy import event, text
from sqlalchemy.engine import Connection

from tests.health_checks.conftest import CHECKS, Checking, definition
from tests.satellite.instances import SATELLITES, Instance
from tests.shared_hosts import OWN, SHARED

pytestmark = SHARED

IDLE = {"intervalSeconds": 3600, "runsOn": {"tags": ["nowhere"]}}


async def pages(checking: Checking, path: str, entries: str, **query: Any) -> list[list[dict[str, Any]]]:
    found, after = [], None
    while True:
        answer = await checking.api.get(path, params={**query, **({} if after is None else {"after": after})})
        assert answer.status_code == 200, answer.text
        found.append(answer.json()[entries])
        if (after := answer.json()["next"]) is None:
            return found


async def sql(instance: Instance, statement: str, **values: Any) -> None:
    assert instance.host.runtime is not None
    async with instance.host.runtime.database.sessions.begin() as session:
        await session.execute(text(statement), values)


RESULTS = """
INSERT INTO health_checks_results (ran_on, id, check_id, system, status, message, metrics, detail, executed_at)
SELECT 'core', 'r' || lpad(n::text, 6, '0'), CAST(:check AS uuid), 's',
       CASE WHEN n % 3 = 0 THEN 'unhealthy' ELSE 'healthy' END,
       '', '{}', '{}', now() - make_interval(secs => n / :together) FROM generate_series(1, :count) AS n
"""
PLACES = """
INSERT INTO satellite_satellites (id, name, region, tags, token_digest, offline_after_seconds)
SELECT gen_random_uuid(), :tag || n, 'eu', ARRAY[:tag], sha256(CAST(:tag || n AS bytea)), 60
  FROM generate_series(1, :places) AS n
"""
LATEST = """
UPDATE health_checks_latest AS latest SET executed_at = now(), message = '',
       status = CASE one.number % 50 WHEN 0 THEN 'unhealthy' ELSE 'healthy' END
  FROM (SELECT ran_on, row_number() OVER () AS number FROM health_checks_latest
         WHERE check_id = CAST(:check AS uuid)) AS one
 WHERE latest.check_id = CAST(:check AS uuid) AND latest.ran_on = one.ran_on
"""


async def test_checks_are_listed_by_name_a_page_at_a_time_without_their_scripts(checking: Checking) -> None:
    made = [
        await checking.create(name=name, script=f"echo {name}", **IDLE) for name in ("c", "a", "e", "b", "d")
    ]
    listed = await pages(checking, CHECKS, "checks", limit=2)
    assert [[one["name"] for one in page] for page in listed] == [["a", "b"], ["c", "d"], ["e"]]
    assert not any("script" in one for page in listed for one in page)
    [[with_script]] = await pages(checking, CHECKS, "checks", name="d", include="script")
    assert (with_script["name"], with_script["script"]) == ("d", "echo d")
    [[without]] = await pages(checking, CHECKS, "checks", name="d")
    assert {**without, "script": "echo d"} == {**with_script, "scriptSha256": without["scriptSha256"]}
    changed = await checking.change(made[4], script="echo other")
    [[again]] = await pages(checking, CHECKS, "checks", name="d")
    assert again["scriptSha256"] != without["scriptSha256"]
    assert again["updatedAt"] == changed["updatedAt"]


async def test_a_list_is_stable_while_checks_come_and_go(checking: Checking) -> None:
    made = {name: await checking.create(name=name, **IDLE) for name in "bdfhj"}
    seen, after, changes = list[str](), None, iter(["a", "b", "c", "f", "i"])
    while True:
        answer = await checking.api.get(CHECKS, params={"limit": 2, **({"after": after} if after else {})})
        seen += [one["name"] for one in answer.json()["checks"]]
        if (after := answer.json()["next"]) is None:
            break
        for name in (next(changes), next(changes)):
            if name in made:
                await checking.delete(made[name])
            else:
                await checking.create(name=name, **IDLE)
    assert sorted(set(seen)) == seen, "none twice, and in order"
    assert {"d", "h", "j"} <= set(seen), "none was left out that was there all the time"


@OWN
async def test_of_a_check_in_many_places_those_are_told_that_are_worst_off(
    instance: Instance, checking: Checking
) -> None:
    made: list[dict[str, Any]] = []
    for name, count in (("a", 300), ("b", 3)):
        await sql(instance, PLACES, tag=name, places=count)
        made.append(await checking.create(name=name, intervalSeconds=3600, runsOn={"tags": [name]}))
        await sql(instance, LATEST, check=made[-1]["id"])
    check, _ = made
    one, two = (await checking.api.get(CHECKS)).json()["checks"]
    assert [seen["status"] for seen in one["latest"]] == ["unhealthy"] * 6 + ["healthy"] * 4
    assert (one["latestTruncated"], len(two["latest"]), two["latestTruncated"]) == (True, 3, False)
    shown = (await checking.api.get(f"{CHECKS}/{check['id']}")).json()
    assert (len(shown["latest"]), shown["latestTruncated"]) == (100, True)
    assert shown["counts"] == {"unhealthy": 6, "healthy": 294}
    places = [
        seen["ranOn"]
        for page in await pages(checking, f"{CHECKS}/{check['id']}/latest", "latest", limit=70)
        for seen in page
    ]
    assert len(places) == len(set(places)) == 300


async def test_results_of_one_moment_are_each_on_one_page(instance: Instance, checking: Checking) -> None:
    check = await checking.create(**IDLE)
    await sql(instance, RESULTS, check=check["id"], count=100, together=30)
    path = f"{CHECKS}/{check['id']}/results"
    for query, count in (({}, 100), ({"status": "unhealthy"}, 33), ({"on": "core"}, 100)):
        listed = await pages(checking, path, "results", limit=7, **query)
        ids = [one["id"] for page in listed for one in page]
        assert len(ids) == len(set(ids)) == count
        times = [one["executedAt"] for page in listed for one in page]
        assert times == sorted(times, reverse=True)
    for wrong in ("x", "WyJhIiwiYiIsImMiXQ"):
        assert (await checking.api.get(path, params={"after": wrong})).status_code == 422


async def test_names_of_satellites_are_told_to_those_who_may_see_them(
    instance: Instance, checking: Checking
) -> None:
    mine, other = await instance.register("mine", tags=["env=dev"]), await instance.register("other")
    check = await checking.create(intervalSeconds=3600, runsOn={"satellites": [mine.id, other.id]})
    await sql(
        instance,
        """INSERT INTO health_checks_latest (check_id, ran_on, status, message, executed_at, placed_at)
           SELECT CAST(:check AS uuid), one, 'healthy', '', now(), now()
             FROM unnest(CAST(:places AS text[])) AS one ON CONFLICT DO NOTHING""",
        check=check["id"],
        places=[mine.id, other.id, "core", str(uuid.uuid4()), "no place"],
    )
    both = {mine.id: "mine", other.id: "other"}
    for rules, expected in (
        (["health-checks.check.read", "satellite.satellite.read"], both),
        (["health-checks.check.read", "satellite.satellite.read on env=dev"], {mine.id: "mine"}),
        (["health-checks.check.read"], {}),
    ):
        async with client(instance.host, rules=rules) as reader:
            for path in (CHECKS, f"{CHECKS}/{check['id']}", f"{CHECKS}/{check['id']}/latest"):
                answer = await reader.get(path)
                assert answer.status_code == 200, answer.text
                assert answer.json()["names"] == expected


@OWN
async def test_a_check_that_a_newer_release_wrote_is_passed_over_and_ends_no_list(
    instance: Instance, checking: Checking
) -> None:
    for name in ("a", "b", "c"):
        await checking.create(name=name, **IDLE)
    odd = json.dumps({**definition(name="b"), "kind": "of-the-future"})
    await sql(
        instance, "UPDATE health_checks_checks SET definition = CAST(:odd AS jsonb) WHERE name = 'b'", odd=odd
    )
    listed = await pages(checking, CHECKS, "checks", limit=1)
    assert [[one["name"] for one in page] for page in listed] == [["a"], [], ["c"]]


async def test_a_satellite_is_found_by_its_name(instance: Instance, checking: Checking) -> None:
    await instance.register("one")
    two = await instance.register("two")
    [[found]] = await pages(checking, SATELLITES, "satellites", name="two")
    assert found["id"] == two.id
    assert await pages(checking, SATELLITES, "satellites", name="three") == [[]]


@contextmanager
def statements(instance: Instance) -> Iterator[list[tuple[str, Any]]]:
    """What the instance asks its database while the block runs."""
    asked: list[tuple[str, Any]] = []
    assert instance.host.runtime is not None

    def noted(_c: Connection, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    engine = instance.host.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", noted)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", noted)


@OWN
async def test_no_list_reads_all_results_or_all_newest_ones(instance: Instance, checking: Checking) -> None:
    check = await checking.create(name="the one", **IDLE)
    await sql(
        instance,
        """INSERT INTO health_checks_checks (id, name, definition, created_by, updated_by)
           SELECT gen_random_uuid(), 'check ' || n, CAST(:wire AS jsonb), 'x', 'x'
             FROM generate_series(1, 1500) AS n""",
        wire=json.dumps(definition()),
    )
    await sql(
        instance,
        """INSERT INTO health_checks_latest (check_id, ran_on, status, message, executed_at, placed_at)
           SELECT id, gen_random_uuid(), 'healthy', '', now(), now()
             FROM health_checks_checks, generate_series(1, 10)""",
    )
    await sql(
        instance,
        """INSERT INTO health_checks_results (ran_on, id, check_id, system, status, message, metrics, detail,
                                              executed_at)
           SELECT ran_on, n::text, check_id, 's', 'healthy', '', '{}', '{}', now() - make_interval(mins => n)
             FROM health_checks_latest, generate_series(1, 2) AS n""",
    )
    await sql(instance, RESULTS, check=check["id"], count=2000, together=1)
    await sql(instance, "ANALYZE")
    path = f"{CHECKS}/{check['id']}"
    first = (await checking.api.get(f"{path}/results")).json()["next"]
    with statements(instance) as asked:
        for url in (
            CHECKS,
            f"{CHECKS}?after=check 3",
            path,
            f"{path}/latest",
            f"{path}/results",
            f"{path}/results?after={first}",
            f"{path}/results?on=core&status=unhealthy",
            f"{path}/results?status=unhealthy",
            f"{path}/results?on=core",
        ):
            assert (await checking.api.get(url)).status_code == 200
    # Not what the leader looks at meanwhile, which is everything.
    asked = [one for one in asked if "health_checks_" in one[0] and "SKIP LOCKED" not in one[0]]
    assert len(asked) >= 14
    assert instance.host.runtime is not None
    async with instance.host.database.engine.connect() as connection:
        for statement, values in asked:
            plan = await connection.exec_driver_sql(f"EXPLAIN {statement}", values)
            lines = [line for (line,) in plan]
            scans = [line for line in lines if re.search("Seq Scan on health_checks_(results|latest)", line)]
            assert not scans, "\n".join([statement, *lines])
