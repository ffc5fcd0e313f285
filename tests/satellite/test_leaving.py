"""Over how long satellites are sent elsewhere."""

from __future__ import annotations

import pytest
from ringfence_satellite.server.connections.draining import PER_SECOND, spread_seconds


@pytest.mark.parametrize(("satellites", "seconds"), [(0, 0.0), (int(PER_SECOND), 1.0), (10_000, 10.0)])
def test_many_satellites_are_sent_away_over_a_longer_time_but_not_beyond_the_deadline(
    satellites: int, seconds: float
) -> None:
    assert spread_seconds(satellites, most=10.0) == seconds
