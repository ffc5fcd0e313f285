"""`ringfence jobs` shows jobs and timetables, cancels jobs, and has them tried again."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request, problem

JOBS = "/api/host/jobs"
ID = "01234567-89ab-cdef-0123-456789abcdef"


def job(**changed: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "plugin": "mailer",
        "kind": "mailer.send",
        "status": "failed",
        "served": True,
        "key": None,
        "timetable": None,
        "actor": None,
        "enqueuedAt": "2026-01-01T00:00:00+00:00",
        "dueAt": "2026-01-01T00:00:00+00:00",
        "begunAt": "2026-01-01T00:00:00+00:00",
        "endedAt": "2026-01-01T00:00:00+00:00",
        "attempts": 3,
        "failures": 3,
        "instancesLost": 0,
        "instance": None,
        "cancelRequested": False,
        "progress": None,
        "error": "ValueError: \x1b[31mno",
        **changed,
    }


RUNNING = {"status": "running", "endedAt": None, "error": None}


def query(request: Request) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(request.path).query))


def test_list_says_how_far_each_job_is_and_why_it_is_no_further(command: Command, host: FakeHost) -> None:
    found = [
        job(),
        job(**RUNNING, progress={"done": 3, "of": 10, "text": "unpacking"}),
        job(**RUNNING, cancelRequested=True),
        job(status="waiting", served=False, begunAt=None, endedAt=None, error=None),
    ]
    host.on("GET", JOBS, Answer(200, {"jobs": found, "next": None}))
    shown = command("jobs", "list", "--plugin", "mailer", "--status", "failed").stdout
    assert query(host.requests[-1]) == {"plugin": "mailer", "status": "failed", "limit": "50"}
    assert "\x1b[31mno" not in shown
    for words in ("3 of 10 unpacking", "is being cancelled", "no instance does such jobs"):
        assert words in " ".join(shown.split())


def test_list_ends_at_its_limit_whatever_more_there_is(command: Command, host: FakeHost) -> None:
    host.on("GET", JOBS, Answer(200, {"jobs": [job(), job()], "next": "7"}))
    shown = json.loads(command("jobs", "list", "--limit", "3", "--json").stdout)
    assert len(shown["jobs"]) == 3


def test_show_tells_what_is_in_a_job_if_the_token_may_see_it(command: Command, host: FakeHost) -> None:
    host.on("GET", f"{JOBS}/{ID}", Answer(200, {**job(), "payload": {"to": "ada"}, "payloadWithheld": False}))
    assert '{"to": "ada"}' in command("jobs", "show", ID).stdout
    host.on("GET", f"{JOBS}/{ID}", Answer(200, {**job(), "payload": None, "payloadWithheld": True}))
    assert "host.job.manage" in command("jobs", "show", ID).stdout


def test_cancel_says_whether_a_job_has_ended_or_is_to(command: Command, host: FakeHost) -> None:
    host.on("POST", f"{JOBS}/{ID}/cancel", Answer(202, job(**RUNNING)))
    assert f"mailer.send {ID} is told to end where it runs." in command("jobs", "cancel", ID).stdout
    host.on("POST", f"{JOBS}/{ID}/cancel", Answer(202, job(status="cancelled")))
    assert f"mailer.send {ID} is cancelled." in command("jobs", "cancel", ID).stdout
    host.on("POST", f"{JOBS}/{ID}/cancel", problem(409, f"job {ID} has succeeded already"))
    outcome = command("jobs", "cancel", ID)
    assert (outcome.status, "has succeeded already" in outcome.stderr) == (1, True)


def test_retry_says_what_waits(command: Command, host: FakeHost) -> None:
    host.on("POST", f"{JOBS}/{ID}/retry", Answer(202, job(status="waiting")))
    assert f"mailer.send {ID} waits to be tried again." in command("jobs", "retry", ID).stdout


def test_timetables_say_when_the_next_time_is(command: Command, host: FakeHost) -> None:
    nightly = {
        "plugin": "mailer",
        "name": "nightly",
        "kind": "mailer.send",
        "schedule": "0 3 * * *",
        "zone": "Europe/Berlin",
        "nextAt": "2026-01-01T00:00:00+00:00",
        "lastAt": None,
        "served": True,
    }
    gone = {**nightly, "name": "gone", "zone": "UTC", "served": False}
    host.on("GET", f"{JOBS}/timetables", Answer(200, {"timetables": [nightly, gone], "next": None}))
    shown = " ".join(command("jobs", "timetables").stdout.split())
    assert "0 3 * * * Europe/Berlin" in shown
    assert "when an instance does such jobs" in shown
