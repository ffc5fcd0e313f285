"""The times of a route as the core takes them, and those of messages that other plugins have sent."""

from __future__ import annotations

import datetime as dt

from ringfence_notifications.deciding import Timing
from ringfence_notifications.routing.route import Route

DIRECT = "direct"
"""Stands for the route of what other plugins have sent."""
GATHERED = Timing(dt.timedelta(seconds=30), None, dt.timedelta())
AT_ONCE = Timing(dt.timedelta(), None, dt.timedelta())


def timing_of(route: Route) -> Timing:
    """How long what happens is gathered, and when it is told again."""
    repeat = route.repeat_seconds
    return Timing(
        dt.timedelta(seconds=route.window_seconds),
        None if repeat is None else dt.timedelta(seconds=repeat),
        dt.timedelta(seconds=route.again_seconds),
    )
