"""The routes that are there without anybody's doing: what everybody wants to be told of.

Each names hooks of other plugins by their names. One whose plugin is not on the host is idle.
"""

from __future__ import annotations

from ringfence_notifications.routing.route import ANY, Recovery, Route

_PLACE = "{{ event.placeName != null ? event.placeName : event.place }}"
_FOUR_HOURS = 4 * 3600.0
_DAY = 86_400.0

BUILT_IN: tuple[Route, ...] = (
    Route(
        name="failing-checks",
        what="failing checks",
        hook="health-state-changed",
        filter='!event.silenced && event.to in ["degraded", "unknown", "unhealthy"]',
        key=("{{ event.checkId }}", "{{ event.place }}"),
        group='{{ event.stale ? "stale" : event.checkId }}',
        title=f"{{{{ event.checkName }}}} is {{{{ event.to }}}} on {_PLACE}",
        text="{{ event.message }}",
        link="/checks/{{ event.checkId }}",
        severity='{{ event.to == "unhealthy" ? "error" : "warning" }}',
        repeat_seconds=_FOUR_HOURS,
        recoveries=(
            Recovery(hook="health-state-changed", filter='event.to == "healthy"', text="{{ event.message }}"),
            Recovery(
                hook="health-check-changed",
                filter='event.change == "deleted"',
                key=("{{ event.checkId }}", ANY),
                text="The check was deleted.",
            ),
            Recovery(
                hook="satellite-deleted",
                key=(ANY, "{{ event.satelliteId }}"),
                text="The satellite was deleted.",
            ),
        ),
    ),
    Route(
        name="lost-satellites",
        what="lost satellites",
        hook="satellite-heartbeat-lost",
        key=("{{ event.satelliteId }}",),
        title="The satellite {{ event.name }} is lost",
        text="Nothing was heard of it for {{ event.offlineAfterSeconds }} seconds.",
        link="/satellites/{{ event.satelliteId }}",
        severity="error",
        repeat_seconds=_FOUR_HOURS,
        recoveries=(
            Recovery(hook="satellite-connected", text="It is connected again."),
            Recovery(hook="satellite-deleted", text="The satellite was deleted."),
        ),
    ),
    Route(
        name="refused-runs",
        what="checks whose runs the sandbox refuses",
        hook="health-check-stopped",
        filter='!event.silenced && event.stopped == "refused"',
        key=("{{ event.checkId }}", "{{ event.place }}"),
        group="{{ event.checkId }}",
        title=f"The sandbox refuses to run {{{{ event.checkName }}}} on {_PLACE}",
        text="{{ event.message }}",
        link="/checks/{{ event.checkId }}",
        severity="error",
        repeat_seconds=_DAY,
        recoveries=(
            Recovery(hook="health-check-stopped", filter='event.stopped != "refused"'),
            Recovery(
                hook="health-check-changed",
                filter='event.change == "deleted"',
                key=("{{ event.checkId }}", ANY),
                text="The check was deleted.",
            ),
            Recovery(
                hook="satellite-deleted",
                key=(ANY, "{{ event.satelliteId }}"),
                text="The satellite was deleted.",
            ),
        ),
    ),
    Route(
        name="refused-satellite-runs",
        what="runs on satellites that the sandbox refused",
        hook="satellite-run-finished",
        filter='event.stopped == "refused"',
        key=("{{ event.satelliteId }}",),
        title="The sandbox of satellite {{ event.satelliteId }} refused a run",
        text="ringfence runs show {{ event.runId }} says why.",
        link="/satellites/{{ event.satelliteId }}",
        severity="warning",
    ),
    Route(
        name="failing-automations",
        what="failing automations",
        hook="automation-run-finished",
        filter='event.status == "failed"',
        key=("{{ event.automation }}",),
        title="The automation {{ event.automation }} failed",
        text="{{ event.message }}",
        link="/automations/{{ event.automation }}",
        severity="error",
        recoveries=(
            Recovery(hook="automation-run-finished", filter='event.status == "succeeded"'),
            Recovery(
                hook="automation-changed",
                filter='event.change == "deleted"',
                key=("{{ event.name }}",),
                text="The automation was deleted.",
            ),
        ),
    ),
    Route(
        name="stopped-escapes",
        what="checks ended for a forbidden system call",
        hook="health-check-stopped",
        filter='event.stopped == "forbidden-call"',
        key=("{{ event.checkId }}", "{{ event.place }}"),
        title=f"{{{{ event.checkName }}}} made a forbidden system call on {_PLACE}, and was ended",
        text="{{ event.message }}",
        link="/checks/{{ event.checkId }}",
        severity="critical",
    ),
    Route(
        name="stopped-satellite-escapes",
        what="runs ended for a forbidden system call",
        hook="satellite-run-finished",
        filter="event.exitCode == -31",
        key=("{{ event.satelliteId }}",),
        title="A run on satellite {{ event.satelliteId }} made a forbidden system call, and was ended",
        text="ringfence runs show {{ event.runId }} shows it.",
        link="/satellites/{{ event.satelliteId }}",
        severity="critical",
    ),
    Route(
        name="set-back-databases",
        what="set-back databases",
        hook="event-log-set-back",
        title="The database was set back to an older state",
        text="The event log ended at {{ event.readUpTo }}, and goes on after {{ event.resumedAfter }}. What happened "
        "in between is gone. If nobody of you has restored a backup, find out who did.",
        link="/events",
        severity="critical",
    ),
    Route(
        name="tampered-histories",
        what="tampered histories",
        hook="event-log-tampered",
        key=("{{ event.stream }}",),
        title="The history {{ event.stream }} was tampered with",
        text="Version {{ event.version }} {{ event.what }}. See `ringfence events verify {{ event.stream }}`.",
        link="/events?stream={{ event.stream }}",
        severity="critical",
        again_seconds=_DAY,
    ),
    Route(
        name="undelivered-messages",
        what="messages that could not be delivered",
        hook="notification-failed",
        key=("{{ event.channel }}",),
        title="The channel {{ event.channel }} does not take messages",
        text="“{{ event.title }}” was not delivered in {{ event.attempts }} attempts: {{ event.error }}",
        link="/notifications",
        severity="error",
        again_seconds=_DAY,
    ),
)
