"""The host's own metrics: what one instance knows of itself, and what the database says of the fleet.

Whatever is counted in the database is counted up to `MOST_COUNTED` only, along an index.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import text

from ringfence.eventlog import last_position
from ringfence.eventlog.groups import standing
from ringfence.jobs import Worker
from ringfence.metrics.families import Metric, counter, gauge, histogram
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.storage.counted_pool import PoolStanding
from ringfence.web.counted import Requests

MOST_COUNTED = 10_000
MOST_KINDS = 200
LOST_SECONDS = 15 * 60.0
LEFT_OUT = "left_out"

# By the partial indexes of jobs that wait and run, and of those that have failed.
_BY_INDEX = text("SET LOCAL enable_seqscan = off")
_JOBS = text("""
    SELECT kind, 'waiting' AS state,
           (SELECT count(*) FROM (
               SELECT FROM jobs WHERE jobs.kind = one.kind AND status = 'waiting' LIMIT :most) AS counted) AS number
      FROM unnest(CAST(:kinds AS text[])) AS one (kind)
    UNION ALL
    SELECT kind, 'running',
           (SELECT count(*) FROM (
               SELECT FROM jobs WHERE jobs.kind = one.kind AND status = 'running' LIMIT :most) AS counted)
      FROM unnest(CAST(:kinds AS text[])) AS one (kind)
    UNION ALL
    SELECT kind, 'failed', count(*) FROM (
        SELECT kind FROM jobs WHERE status = 'failed' ORDER BY number DESC LIMIT :most) AS failed GROUP BY kind
""")
_COUNTS = text("""
    SELECT (SELECT count(*) FROM (SELECT FROM failed_events LIMIT :most) AS counted) AS failed_events,
           (SELECT count(*) FROM (SELECT FROM set_aside LIMIT :most) AS counted) AS set_aside,
           (SELECT count(*) FROM (
               SELECT FROM browser_sessions WHERE ended_at IS NULL
                  AND used_at > clock_timestamp() - make_interval(hours => :idle) LIMIT :most) AS counted) AS sessions,
           (SELECT count(*) FROM event_anchors WHERE told IS NOT NULL) AS tampered
""")


class InstanceMetrics:
    """What the host tells, in two parts that fail by themselves: of itself, and of the database."""

    def __init__(
        self,
        runtime: Runtime,
        plugins: Sequence[LoadedPlugin],
        jobs: Worker,
        requests: Requests,
        pools: Callable[[], Sequence[PoolStanding]],
    ) -> None:
        self._runtime = runtime
        self._plugins = plugins
        self._jobs = jobs
        self._requests = requests
        self._pools = pools

    async def of_instance(self) -> Sequence[Metric]:
        """What this instance knows without asking anybody."""
        runtime, tailer = self._runtime, self._runtime.tailer
        build = (importlib.metadata.version("ringfence"), platform.python_version())
        lanes = dict(runtime.delivery.lanes.behind)
        silent = tailer.silent_seconds
        pools = self._pools()
        return [
            gauge(
                "ringfence_build_info",
                "Always 1; its labels say what runs",
                {build: 1.0},
                labels=["version", "python_version"],
            ),
            gauge("ringfence_draining", "1 while this instance is stopping", float(runtime.drain.began)),
            gauge(
                "ringfence_plugins",
                "Plugins of this instance by how far they have come",
                {(phase,): float(number) for phase, number in self._phases().items()},
                labels=["phase"],
            ),
            gauge(
                "ringfence_plugin_up",
                "1 for a plugin that takes part, 0 for one that is left out",
                {(one.info.id,): float(one.alive) for one in self._plugins},
                labels=["plugin"],
            ),
            gauge(
                "ringfence_plugin_waiting_events",
                "Events that wait for a plugin which the others go on without",
                {(plugin,): float(number) for plugin, number in lanes.items()},
                labels=["plugin"],
            ),
            gauge(
                "ringfence_plugins_missed_event",
                "Plugins of which a listener has failed, so that they have missed an event",
                len(runtime.delivery.missed),
            ),
            gauge(
                "ringfence_tasks_failed",
                "Background tasks that have ended and do not run now",
                len(runtime.tasks.failures),
            ),
            counter(
                "ringfence_task_restarts_total",
                "Background tasks that had ended and were started again",
                float(sum(one.times for one in runtime.tasks.restarts.values())),
            ),
            gauge(
                "ringfence_event_log_live",
                "1 while this instance follows the event log",
                float(tailer.live),
            ),
            gauge(
                "ringfence_event_log_cursor_position",
                "The position of the last event that this instance has delivered",
                tailer.cursor,
            ),
            gauge(
                "ringfence_event_log_silent_seconds",
                "How long ago this instance has last reached the end of the event log",
                {} if silent is None else {(): silent},
            ),
            gauge(
                "ringfence_database_usable",
                "1 while this instance can write to the database",
                float(runtime.database.trouble is None),
            ),
            gauge(
                "ringfence_database_connections",
                "Connections to the database, by what they are for, and whether they are in use or free",
                {
                    (one.name, state): float(number)
                    for one in pools
                    for state, number in (("used", one.used), ("free", one.free))
                },
                labels=["pool", "state"],
            ),
            counter(
                "ringfence_database_waits_total",
                "How often somebody waited for a connection to the database",
                {(one.name,): float(one.waits) for one in pools},
                labels=["pool"],
            ),
            counter(
                "ringfence_database_wait_seconds_total",
                "How long all of them have waited for a connection to the database",
                {(one.name,): one.waited_seconds for one in pools},
                labels=["pool"],
            ),
            histogram(
                "ringfence_event_loop_blocked_seconds",
                "How long single callbacks held up the event loop, of those that did for a tenth of a second or more",
                runtime.hold_ups.seconds,
            ),
            counter(
                "ringfence_job_attempts_total",
                "Attempts at jobs that this instance has made, by the job's kind and how they ended",
                self._jobs.ended,
                labels=["kind", "end"],
            ),
            histogram(
                "ringfence_job_duration_seconds",
                "How long attempts at jobs took",
                self._jobs.durations,
                labels=["kind"],
            ),
            counter(
                "ringfence_http_requests_total",
                "Requests that were answered, by route, method and class of status",
                self._requests.answered,
                labels=["route", "method", "status"],
            ),
            histogram(
                "ringfence_http_request_duration_seconds",
                "How long requests took, those that wait for something to happen among them",
                self._requests.seconds,
            ),
        ]

    async def of_database(self) -> Sequence[Metric]:
        """What the database says of the whole fleet: every instance tells the same."""
        kinds = sorted(self._runtime.board.services)[:MOST_KINDS]
        settings = self._runtime.settings
        async with self._runtime.database.sessions() as session:
            await session.execute(_BY_INDEX)
            jobs = (await session.execute(_JOBS, {"kinds": kinds, "most": MOST_COUNTED})).all()
            idle = {"most": MOST_COUNTED, "idle": max(1, int(settings.session_idle_hours))}
            counts = (await session.execute(_COUNTS, idle)).one()
            groups = await standing.groups(session)
            instances = await standing.instances(session, within_seconds=LOST_SECONDS)
            position = await last_position(session)
        own = [one.lag_seconds for one in instances if one.instance == self._runtime.instance_id]
        gone = sum(one.gone for one in instances)
        return [
            gauge("ringfence_event_log_position", "The position of the newest event", position),
            gauge(
                "ringfence_event_log_lag_seconds",
                "How old the oldest event was that this instance had not read when it last told of itself",
                {} if not own else {(): own[0]},
            ),
            gauge(
                "ringfence_worker_group_lag_events",
                "Positions after the cursor of a worker group, also of events that are not for it",
                {(one.plugin, one.name): float(one.behind) for one in groups},
                labels=["plugin", "group"],
            ),
            gauge(
                "ringfence_worker_group_attempts",
                "How often a worker group has begun with the event that it is at",
                {(one.plugin, one.name): float(one.attempts) for one in groups},
                labels=["plugin", "group"],
            ),
            gauge(
                "ringfence_instances",
                "Instances of the fleet; gone: not heard of within a quarter of an hour, nor left in good order",
                {("up",): float(len(instances) - gone), ("gone",): float(gone)},
                labels=["state"],
            ),
            gauge(
                "ringfence_jobs",
                f"Jobs by kind and state, each counted up to {MOST_COUNTED}",
                _told(jobs, kinds),
                labels=["kind", "state"],
            ),
            gauge(
                "ringfence_events_failed",
                f"Events that worker groups have given up on, counted up to {MOST_COUNTED}",
                counts.failed_events,
            ),
            gauge(
                "ringfence_set_aside",
                f"Reports that could not be written and were set aside, counted up to {MOST_COUNTED}",
                counts.set_aside,
            ),
            gauge(
                "ringfence_streams_tampered",
                "Streams whose history does not say any more what was written",
                counts.tampered,
            ),
            gauge(
                "ringfence_sessions",
                f"Sessions of browsers that have not ended, counted up to {MOST_COUNTED}",
                counts.sessions,
            ),
        ]

    def _phases(self) -> Counter[str]:
        return Counter(LEFT_OUT if one.error is not None else one.phase.value for one in self._plugins)


def _told(jobs: Sequence[Any], kinds: Sequence[str]) -> dict[tuple[str, ...], float]:
    """The counts of jobs; also those of kinds of which none has failed."""
    told = {(kind, "failed"): 0.0 for kind in kinds}
    told |= {(row.kind, row.state): float(row.number) for row in jobs}
    return dict(list(told.items())[: 3 * MOST_KINDS])
