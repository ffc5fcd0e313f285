"""What is where in the network of a run that has a relay."""

from __future__ import annotations

OWN_V4, OWN_V6 = "198.19.254.100", "fd00:5e:5e::100"
"""The run's own addresses: of a range for measurements (RFC 2544), and a unique local one."""

DNS = 53
RESOLVER = "127.0.0.1"
"""Where names are resolved, inside."""

MOST_LISTENERS = 512
"""So many ports can be listed one by one; where there are more, a packet filter has to take connections."""


class OpeningError(RuntimeError):
    """The inside end of a relay could not be made; the message says why."""
