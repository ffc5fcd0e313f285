"""Whether a change of a place is silenced, as an expression over the row of its newest result."""

from __future__ import annotations

SILENCED = """
    EXISTS (SELECT FROM health_checks_silences AS silence
             WHERE clock_timestamp() >= silence.starts_at AND clock_timestamp() < silence.ends_at
               AND (silence.check_id IS NULL OR silence.check_id = latest.check_id)
               AND (silence.label IS NULL OR silence.label = ANY(latest.place_labels))
               AND (silence.place IS NULL OR silence.place = latest.ran_on))
"""
"""The SQL expression, where `latest` is the row."""
