"""When an instance counts as gone: it has not left, and has not been heard of for some time of the database's clock.

While the database itself is down nobody can be heard of, so a silence counts only from the database's start.
"""

from __future__ import annotations

GONE_SECONDS = 4.0
"""An instance that has been silent for so long is taken to be gone."""

IS_GONE = """EXISTS (
    SELECT FROM event_instances AS seen
     WHERE seen.instance = {}
       AND greatest(seen.seen_at, pg_postmaster_start_time()) < clock_timestamp() - make_interval(secs => :gone))"""
"""SQL, to be formatted with an expression for the instance; takes the parameter `gone`. Who has left is not gone."""
