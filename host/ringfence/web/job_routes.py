"""Jobs over HTTP: which there are, how far they are, cancelling them, and trying failed ones again."""

from __future__ import annotations

import enum
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query

from ringfence.access import AccessRule, Principal
from ringfence.bounded import ShortText
from ringfence.http.guard import require
from ringfence.http.paging import DEFAULT_LISTED, After, Limit, cursor, number_of, page, parts_of
from ringfence.http.problems import Problem
from ringfence.http.routes import Router
from ringfence.jobs.records import JobRecord, TimetableRecord, list_jobs, list_timetables, one_job, retry_job
from ringfence.plugins.runtime import Runtime

READ_JOBS = AccessRule(
    "host",
    "job",
    "read",
    "See which jobs and timetables there are, and why jobs failed, without what is in them",
)
MANAGE_JOBS = AccessRule("host", "job", "manage", "Cancel jobs, try them again, and see what is in them")
JOB_RULES = (READ_JOBS, MANAGE_JOBS)


class Status(enum.StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


def build(runtime: Runtime) -> Router:
    """The routes, over one instance's database."""
    router = Router()

    @router.get("/jobs")
    async def listed(
        _: Annotated[Principal, Depends(require(READ_JOBS))],
        plugin: Annotated[ShortText | None, Query(description="only jobs of this plugin")] = None,
        kind: Annotated[
            ShortText | None, Query(description="only jobs of this kind: <plugin>.<name>")
        ] = None,
        status: Annotated[Status | None, Query(description="only jobs that are so far")] = None,
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        before = None if after is None else number_of(after)
        async with runtime.database.sessions() as session:
            found = await list_jobs(
                session, before=before, limit=limit + 1, plugin=plugin, kind=kind, status=status
            )
        shown = page(found, limit, lambda one: str(one.number))
        return {"jobs": [_job(one) for one in shown.entries], "next": shown.next}

    @router.get("/jobs/timetables")
    async def timetables(
        _: Annotated[Principal, Depends(require(READ_JOBS))],
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        plugin, name = ("", "") if after is None else parts_of(after, 2)
        async with runtime.database.sessions() as session:
            found = await list_timetables(session, after=(plugin, name), limit=limit + 1)
        shown = page(found, limit, lambda one: cursor(one.plugin, one.name))
        return {"timetables": [_timetable(one) for one in shown.entries], "next": shown.next}

    @router.get("/jobs/{id}")
    async def show(id: UUID, principal: Annotated[Principal, Depends(require(READ_JOBS))]) -> dict[str, Any]:
        job = await job_of(runtime, id)
        readable = principal.holds(MANAGE_JOBS.name)
        return {**_job(job), "payload": job.payload if readable else None, "payloadWithheld": not readable}

    @router.post("/jobs/{id}/cancel", status_code=202)
    async def cancel(id: UUID, _: Annotated[Principal, Depends(require(MANAGE_JOBS))]) -> dict[str, Any]:
        return _job(await cancel_job(runtime, id))

    @router.post("/jobs/{id}/retry", status_code=202)
    async def retry(id: UUID, _: Annotated[Principal, Depends(require(MANAGE_JOBS))]) -> dict[str, Any]:
        return _job(await try_again(runtime, id))

    return router


async def job_of(runtime: Runtime, id: UUID) -> JobRecord:
    """The job of that id, with its payload. Raises `Problem`."""
    async with runtime.database.sessions() as session:
        job = await one_job(session, id)
    if job is None:
        raise _unknown(id)
    return job


async def cancel_job(runtime: Runtime, id: UUID) -> JobRecord:
    """Cancel a job. Raises `Problem` for one that is not there, or has ended."""
    async with runtime.database.sessions.begin() as session:
        was = await runtime.queue.cancel(session, id, plugin=None)
        job = await one_job(session, id)
    if job is None:
        raise _unknown(id)
    if was is None:
        raise Problem(409, detail=f"job {id} has {job.status} already: there is nothing to cancel")
    return job


async def try_again(runtime: Runtime, id: UUID) -> JobRecord:
    """Have a job tried again. Raises `Problem` for one that is not there, or has neither failed nor was cancelled."""
    async with runtime.database.sessions.begin() as session:
        waits = await retry_job(session, id)
        job = await one_job(session, id)
    if job is None:
        raise _unknown(id)
    if not waits:
        raise Problem(
            409,
            detail=f"job {id} is {job.status}: only one that has failed, or was cancelled, is tried again",
        )
    return job


def _unknown(id: UUID) -> Problem:
    return Problem(404, detail=f"there is no job {id}: it never was, or has ended long ago")


def _job(one: JobRecord) -> dict[str, Any]:
    return {
        "id": str(one.id),
        "plugin": one.plugin,
        "kind": one.kind,
        "status": one.status,
        "served": one.served,
        "key": one.key,
        "timetable": one.timetable,
        "actor": one.actor,
        "enqueuedAt": one.enqueued_at,
        "dueAt": one.due_at,
        "begunAt": one.begun_at,
        "endedAt": one.ended_at,
        "attempts": one.attempts,
        "failures": one.failures,
        "instancesLost": one.losses,
        "instance": None if one.instance is None else str(one.instance),
        "cancelRequested": one.cancel,
        "progress": one.progress,
        "error": one.error,
    }


def _timetable(one: TimetableRecord) -> dict[str, Any]:
    return {
        "plugin": one.plugin,
        "name": one.name,
        "kind": one.kind,
        "schedule": one.schedule,
        "zone": one.zone,
        "nextAt": one.next_at,
        "lastAt": one.last_at,
        "served": one.served,
    }
