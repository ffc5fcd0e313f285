"""How each check is in each place: expected, current, settled or stale."""
