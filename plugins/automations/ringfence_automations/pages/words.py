"""Triggers, states and spans of time in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = {
    "succeeded": "good",
    "failed": "bad",
    "interrupted": "bad",
    "running": "warn",
    "queued": "warn",
    "waiting": "warn",
}


def kind_of(status: str | None) -> str:
    """The kind of a state: good, bad, warn or off."""
    return _KINDS.get(status or "", "off")


def trigger_in_words(trigger: Mapping[str, Any]) -> str:
    """What starts it, in a line."""
    filter = f" if {trigger['filter']}" if trigger.get("filter") else ""
    if trigger.get("hook"):
        return f"{trigger['hook']}{filter}"
    if trigger.get("every"):
        return f"every {trigger['every']}"
    if trigger.get("cron"):
        return f"on the schedule {trigger['cron']} ({trigger.get('zone') or 'UTC'})"
    if "webhook" in trigger:
        signed = ", signed" if isinstance(trigger["webhook"], dict) and trigger["webhook"].get("hmac") else ""
        return f"a webhook{signed}{filter}"
    return "by hand"


def triggers_in_words(triggers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What starts it, one thing a line."""
    return [trigger_in_words(one) for one in triggers] or ["by hand"]


def cause_in_words(trigger: Mapping[str, Any], started_by: str | None) -> str:
    """What has started a run."""
    what = {
        "hook": f"event {trigger.get('hook')}",
        "timetable": "the timetable",
        "webhook": "the webhook",
        "manual": "by hand",
    }.get(str(trigger.get("kind")), str(trigger.get("kind")))
    return f"{what}, {started_by}" if started_by else what


def span(seconds: float) -> str:
    """A span of time, as exactly as one cares for."""
    if seconds < 0.95:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
