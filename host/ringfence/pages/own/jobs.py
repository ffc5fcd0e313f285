"""Jobs: which there are, how far each is, trying one again and cancelling it; and the timetables that begin them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from ringfence.http.paging import DEFAULT_LISTED, cursor, number_of, page, parts_of
from ringfence.http.problems import Problem
from ringfence.jobs.records import JobRecord, list_timetables, look_back
from ringfence.pages.declared import Action, Again, Command, Found, Page, Pages, Redirect, View
from ringfence.pages.own.payloads import Payload
from ringfence.plugins.runtime import Runtime
from ringfence.web.job_routes import MANAGE_JOBS, READ_JOBS, Status, cancel_job, job_of, try_again

LONGEST_NAME = 200
UNENDED = (Status.WAITING, Status.RUNNING)
KINDS = {"failed": "bad", "succeeded": "good", "running": "warn"}
"""How a state is shown, where it is not just there."""


class JobPages:
    """The pages."""

    def __init__(self, runtime: Runtime, *, live: Sequence[str]) -> None:
        self._runtime = runtime
        self._live = live

    def declared(self) -> Pages:
        """The list, each job, and the timetables."""
        return Pages(
            package="",
            pages=[
                Page(
                    path="/jobs",
                    title="Jobs",
                    template="jobs.html",
                    show=self.listed,
                    rule=READ_JOBS,
                    group="System",
                    order=84,
                    live=self._live,
                ),
                Page(path="/jobs/{id}", title="Job", template="job.html", show=self.one, rule=READ_JOBS),
                Page(
                    path="/jobs/timetables",
                    title="Timetables",
                    template="timetables.html",
                    show=self.timetables,
                    rule=READ_JOBS,
                ),
            ],
            actions=[
                Action(path="/jobs/{id}/retry", title="Try again", do=self.retry, rule=MANAGE_JOBS),
                Action(path="/jobs/{id}/cancel", title="Cancel", do=self.cancel, rule=MANAGE_JOBS),
            ],
            commands=[
                Command(words="See failed jobs", to="/jobs?status=failed", rule=READ_JOBS),
                Command(words="See timetables", to="/jobs/timetables", rule=READ_JOBS),
            ],
            find=self.find,
        )

    async def listed(self, view: View) -> Mapping[str, Any]:
        """Jobs that fit what is asked for, newest first."""
        given = {
            name: view.query.get(name, "").strip()[:LONGEST_NAME] for name in ("plugin", "kind", "status")
        }
        if given["status"] not in {"", *Status}:
            raise Problem(
                422, detail=f"A job is never {given['status']}: choose one of the states in the list."
            )
        async with self._runtime.database.sessions() as session:
            jobs, next = await look_back(
                session,
                before=None if view.after is None else number_of(view.after),
                limit=DEFAULT_LISTED,
                **{name: value or None for name, value in given.items()},
            )
        kinds = sorted(self._runtime.board.services)
        return {
            "jobs": [_shown(one) for one in jobs],
            "next": next,
            "full": len(jobs) == DEFAULT_LISTED,
            "given": given,
            "kept": {name: value for name, value in given.items() if value},
            "statuses": list(Status),
            "kinds": kinds,
            "plugins": sorted({kind.partition(".")[0] for kind in kinds}),
            "may_manage": view.may(MANAGE_JOBS),
            "moving": view.after is None and any(one.status in UNENDED for one in jobs),
        }

    async def one(self, view: View) -> Mapping[str, Any]:
        """One job, with what is in it for who may see that."""
        job = await job_of(self._runtime, _id(view))
        may_manage = view.principal.holds(MANAGE_JOBS.name)
        return {
            **_shown(job),
            "payload": Payload.of(job.payload) if may_manage else None,
            "may_manage": may_manage,
            "moving": job.status in UNENDED,
        }

    async def retry(self, view: View) -> Redirect | Again:
        """Have a job tried again."""
        job = await try_again(self._runtime, _id(view))
        return Redirect(f"/jobs/{job.id}", "The job is queued again.")

    async def cancel(self, view: View) -> Redirect | Again:
        """Cancel a job."""
        job = await cancel_job(self._runtime, _id(view))
        said = "is cancelled" if job.status == Status.CANCELLED else "is cancelling"
        return Redirect(f"/jobs/{job.id}", f"The job {said}.")

    async def timetables(self, view: View) -> Mapping[str, Any]:
        """What is begun again and again."""
        plugin, name = ("", "") if view.after is None else parts_of(view.after, 2)
        async with self._runtime.database.sessions() as session:
            found = await list_timetables(session, after=(plugin, name), limit=DEFAULT_LISTED + 1)
        shown = page(found, DEFAULT_LISTED, lambda one: cursor(one.plugin, one.name))
        return {"timetables": shown.entries, "next": shown.next}

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Jobs by their kind, and one by its id."""
        if not view.may(READ_JOBS):
            return ()
        try:
            return [Found(f"Job {UUID(words)}", f"/jobs/{UUID(words)}", "job")]
        except ValueError:
            kinds = [kind for kind in sorted(self._runtime.board.services) if words.lower() in kind]
            return [Found(kind, f"/jobs?kind={kind}", "jobs") for kind in kinds[:5]]


def _shown(job: JobRecord) -> dict[str, Any]:
    progress = job.progress or {}
    return {
        "job": job,
        "look": KINDS.get(job.status, "off"),
        "ended": job.ended_at is not None,
        "again": job.status in {Status.FAILED, Status.CANCELLED},
        "done": progress.get("done"),
        "of": progress.get("of"),
        "text": progress.get("text"),
        "nobody": job.status == Status.WAITING and not job.served,
    }


def _id(view: View) -> UUID:
    try:
        return UUID(view.parameters["id"])
    except ValueError as error:
        raise Problem(404, detail="There is no job with such an id.") from error
