"""When an instance counts as gone: it has not left, and has not been heard of for some time of the database's clock."""

from __future__ import annotations

GONE_SECONDS = 4.0
"""An instance that has been silent for so long is taken to be gone."""

IS_GONE = """EXISTS (
    SELECT FROM event_instances AS seen
     WHERE seen.instance = {} AND seen.seen_at < clock_timestamp() - make_interval(secs => :gone))"""
"""SQL, to be formatted with an expression for the instance; takes the parameter `gone`. Who has left is not gone."""
