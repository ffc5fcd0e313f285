"""What checks have seen within the last day, as if they had run all the time."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ringfence.host import Host
from ringfence.scripts import Health, Verdict
from ringfence.scripts.reading import read_metrics
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.results import Result

from tests.lifelike.fleet import REPORT

MINUTE = 60.0
DAY = 86_400.0


@dataclass(frozen=True)
class Course:
    """How a check has fared in one place."""

    check: str
    place: str
    system: str
    every: float
    trouble: tuple[float, float] | None = None
    """From when until when it was unwell, in hours ago."""
    worst: str = "unhealthy"
    usual_ms: float = 80.0
    metric: str | None = None


def results(course: Course, now: dt.datetime, chance: random.Random) -> Iterator[Result]:
    """One after the other, the oldest first."""
    ago = DAY
    while ago > 0:
        hours = ago / 3600
        is_unwell = course.trouble is not None and course.trouble[1] <= hours < course.trouble[0]
        wave = 1 + 0.35 * math.sin((24 - hours) / 24 * 2 * math.pi)
        latency = course.usual_ms * wave * chance.uniform(0.8, 1.25) * (6 if is_unwell else 1)
        metrics: dict[str, Any] = {}
        if course.metric == "used":
            used = 62 + (24 - hours) * 1.1 + chance.uniform(-0.6, 0.6)
            metrics = {"used": {"value": round(min(used, 97), 1), "unit": "%", "warn": "80", "crit": "90"}}
        elif course.metric == "requests":
            metrics = {"requests": {"value": round(420 * wave * chance.uniform(0.9, 1.1)), "unit": "1/s"}}
        status, message = _said(course, is_unwell, latency, metrics)
        detail: dict[str, Any] = {
            "exitCode": 0 if status == "healthy" else 2,
            "stdout": f"{message}\n",
            "sandbox": REPORT,
        }
        verdict = Verdict(Health(status), message, read_metrics(metrics).by_name)
        at = now - dt.timedelta(seconds=ago)
        yield Result(UUID(course.check), course.place, course.system, verdict, round(latency, 1), detail, at)
        ago -= course.every


def _said(course: Course, is_unwell: bool, latency: float, metrics: dict[str, Any]) -> tuple[str, str]:
    if course.metric == "used":
        used = metrics["used"]["value"]
        status = "unhealthy" if used >= 90 else "degraded" if used >= 80 else "healthy"
        return status, f"/var is {used} % full"
    if not is_unwell:
        return "healthy", f"200 OK in {latency:.0f} ms"
    if course.worst == "degraded":
        return "degraded", f"200 OK, but only after {latency:.0f} ms"
    return "unhealthy", "502 Bad Gateway from the load balancer"


async def store(host: Host, courses: list[Course]) -> None:
    """Write all of it, as the instance that hears of it would."""
    (plugin,) = (one.plugin for one in host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    now, chance = dt.datetime.now(dt.UTC), random.Random(7)
    for course in courses:
        # All of one course together: a day of them takes seconds so.
        async with host.database.sessions.begin() as session:
            await plugin._results._write(session, list(results(course, now, chance)))
