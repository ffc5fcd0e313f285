"""What the connections that a relay makes outside may hold."""

from __future__ import annotations

from ringfence.sandbox.egress.relaying.streams import MOST_CONNECTIONS, NARROWEST, WIDEST, window


def test_many_connections_hold_little_more_than_a_few() -> None:
    assert window(0) == window(7) == WIDEST
    assert window(MOST_CONNECTIONS) == NARROWEST
    few = sum(window(others) for others in range(8))
    assert sum(window(others) for others in range(MOST_CONNECTIONS)) < 3 * few
