"""What an operator sees of jobs over HTTP, and can do about them."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ringfence import JobFailed, PluginContext, RunningJob
from ringfence.host import Host
from ringfence.jobs.records import forget_ended
from ringfence.testing import RunHost, client
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.jobs.clerk import ALONE, LONG, TASK, Clerk, Task
from tests.jobs.test_jobs import ended, hang

JOBS = "/api/host/jobs"


async def plan(context: PluginContext) -> None:
    context.every("0 3 * * *", TASK, Task(name="a"), name="nightly", zone="Europe/Berlin")


async def fail(job: RunningJob[Task], session: AsyncSession) -> None:
    raise JobFailed("no such channel")


@pytest.fixture
def clerk() -> Clerk:
    made = Clerk(ready=plan)
    made.acts |= {"fail": fail, "hang": hang}
    return made


@pytest.fixture
async def host(run_host: RunHost, clerk: Clerk) -> Host:
    return await run_host(plugins=[clerk])


@pytest.fixture
async def admin(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as admin:
        yield admin


async def listed(admin: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await admin.get(JOBS, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["jobs"]
    return found


async def test_jobs_are_listed_page_by_page_the_newest_first(clerk: Clerk, admin: httpx.AsyncClient) -> None:
    for number in range(5):
        await clerk.context.enqueue(TASK, Task(name=f"{number}"), after_seconds=3600)
    ids = [one["id"] for one in await listed(admin)]
    first = (await admin.get(JOBS, params={"limit": 3})).json()
    await clerk.context.enqueue(TASK, Task(name="meanwhile"))
    second = (await admin.get(JOBS, params={"limit": 3, "after": first["next"]})).json()
    assert [one["id"] for one in first["jobs"] + second["jobs"]] == ids
    assert second["next"] is None


async def test_jobs_are_chosen_by_plugin_kind_and_status(clerk: Clerk, admin: httpx.AsyncClient) -> None:
    await clerk.context.enqueue(TASK, Task(name="bad", how="fail"))
    await clerk.context.enqueue(ALONE, Task(name="good"))
    await ended(clerk, 2)
    assert [one["kind"] for one in await listed(admin, plugin="clerk")] == ["clerk.alone", "clerk.task"]
    assert await listed(admin, plugin="host") == []
    assert [one["status"] for one in await listed(admin, kind="clerk.alone")] == ["succeeded"]
    [failed] = await listed(admin, status="failed")
    assert (failed["error"], failed["attempts"], failed["failures"]) == ("no such channel", 1, 1)
    assert (await admin.get(JOBS, params={"status": "lost"})).status_code == 422


async def test_a_running_job_is_cancelled_and_a_failed_one_is_tried_again(
    clerk: Clerk, admin: httpx.AsyncClient
) -> None:
    id = await clerk.context.enqueue(LONG, Task(name="a", how="hang"))
    await clerk.begun.get()
    assert (await admin.post(f"{JOBS}/{id}/retry")).status_code == 409
    answer = await admin.post(f"{JOBS}/{id}/cancel")
    assert (answer.status_code, answer.json()["cancelRequested"]) == (202, True)
    assert await ended(clerk) == ["cancelled"]
    assert (await admin.post(f"{JOBS}/{id}/cancel")).status_code == 409
    clerk.acts["hang"] = clerk.write
    assert (await admin.post(f"{JOBS}/{id}/retry")).json()["status"] == "waiting"
    assert (await asyncio.wait_for(clerk.begun.get(), 10)).attempt == 2
    assert await ended(clerk) == ["succeeded"]
    unknown = f"{JOBS}/{uuid.uuid4()}"
    assert {
        (await admin.get(unknown)).status_code,
        (await admin.post(f"{unknown}/retry")).status_code,
        (await admin.post(f"{unknown}/cancel")).status_code,
    } == {404}


async def test_what_is_in_a_job_is_shown_to_who_may_manage_jobs(
    host: Host, clerk: Clerk, admin: httpx.AsyncClient
) -> None:
    id = await clerk.context.enqueue(TASK, Task(name="a"), after_seconds=3600, key="k", actor="ada")
    shown = (await admin.get(f"{JOBS}/{id}")).json()
    assert shown["payload"] == {"name": "a", "how": "write"}
    assert (shown["key"], shown["actor"], shown["served"]) == ("k", "ada", True)
    async with client(host, rules=["host.job.read"], name="reader") as reader:
        shown = (await reader.get(f"{JOBS}/{id}")).json()
        assert (shown["payload"], shown["payloadWithheld"]) == (None, True)
        assert (await reader.post(f"{JOBS}/{id}/cancel")).status_code == 403
    async with client(host, rules=["host.plugin.read"], name="other") as other:
        assert (await other.get(JOBS)).status_code == 403


async def test_kinds_and_timetables_are_told_with_the_plugin(host: Host, admin: httpx.AsyncClient) -> None:
    [plugin] = (await admin.get("/api/host/plugins")).json()["plugins"]
    assert plugin["jobs"] == ["alone (at most 1 at once)", "long", "patient", "short", "task"]
    assert plugin["timetables"] == ["nightly: 0 3 * * * Europe/Berlin (task)"]
    found = (await admin.get(f"{JOBS}/timetables", params={"limit": 1})).json()
    [nightly] = found["timetables"]
    assert (nightly["name"], nightly["kind"], nightly["lastAt"]) == ("nightly", "clerk.task", None)
    more = (await admin.get(f"{JOBS}/timetables", params={"after": found["next"]})).json()
    assert {"host.forget-jobs", "host.trim-events"} <= {one["kind"] for one in more["timetables"]}


async def test_a_job_that_nobody_does_is_told_to_be_like_that(
    clerk: Clerk, host: Host, admin: httpx.AsyncClient
) -> None:
    await clerk.context.enqueue(TASK, Task(name="a"), after_seconds=3600)
    async with clerk.context.sessions.begin() as session:
        await session.execute(text("UPDATE jobs SET plugin = 'gone', kind = 'gone.task'"))
    assert [one["served"] for one in await listed(admin)] == [False]


async def test_jobs_that_ended_long_ago_are_forgotten(clerk: Clerk, admin: httpx.AsyncClient) -> None:
    for name, how in (("old", "write"), ("bad", "fail"), ("new", "write")):
        await clerk.context.enqueue(TASK, Task(name=name, how=how))
    await clerk.context.enqueue(TASK, Task(name="waits"), after_seconds=3600)
    await ended(clerk, 3)
    async with clerk.context.sessions.begin() as session:
        await session.execute(
            text("""UPDATE jobs SET enqueued_at = enqueued_at - interval '15 days',
                                    ended_at = ended_at - interval '15 days' WHERE payload->>'name' <> 'new'""")
        )
    assert await forget_ended(clerk.context.sessions, dt.timedelta(days=14)) == 2
    assert [one["status"] for one in await listed(admin)] == ["waiting", "succeeded"]
