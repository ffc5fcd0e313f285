"""Checks that are carried out: by the schedule, on demand, or as a try; on the core or on a satellite."""
