"""How much and how often either side may say something, and how long it is waited for."""

from __future__ import annotations

AUTHENTICATE_SECONDS = 10.0
"""How long the host waits for `authenticate` before it hangs up."""
HEARTBEAT_SECONDS = 15.0
"""How often a satellite says that it is there, unless it is set otherwise."""
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""The largest frame of either side, in bytes of UTF-8: a run's script and context, or its output."""
MAX_SMALL_FRAME_BYTES = 64 * 1024
"""The largest frame that carries no script and no output, and the largest before authentication."""
MAX_FRAMES_PER_SECOND = 20.0
FRAMES_PER_RUN = 4.0
MAX_FRAME_BURST = 200.0
"""A satellite may say this much at once (the results of as many runs as may be under way, and more), and no
more.
"""
REQUEST_ASSIGNMENTS_SECONDS = 10.0
"""How long a satellite waits before it asks for all assignments again."""
MAX_HELD_RUNS = 256
"""How many runs an agent may name when it signs in: as many as it can be at, and more results than it can keep."""
MAX_UNDERSTOOD = 64
"""How many words an agent may say for what it understands, and a run for what it needs."""
MAX_FACTS = 200
"""How many facts a satellite may be told of itself."""
MAX_VARIABLES = 500
"""How many variables a run may be given that the host vouches for, beside the facts."""
MAX_OUTPUT_PIECE = 8 * 1024
"""The longest piece of a run's output that is told while it runs, in characters: a small frame, whatever they are."""
MAX_OUTPUT_CHARACTERS = 256 * 1024
"""How much of a run's output is told while it runs; its result has all of it."""
MAX_SETS = 500
"""How many sets of packages a satellite may be told of."""
MAX_PACKAGE_PIECE = 64 * 1024
"""The largest piece of a file of a package that is asked for at once, in bytes; the next one is asked for after it."""
MAX_PACKAGE_BYTES = 2 * 1024**3
"""How large a file of a package may be: a piece of one does not begin behind that."""
MAX_TIMEOUT_MS = 24 * 60 * 60 * 1000
MIN_INTERVAL_SECONDS = 0.1
MAX_INTERVAL_SECONDS = 31 * 24 * 3600.0
MAX_DOWNGRADES = 64
MAX_LAYERS = 64
MAX_REASON = 300
"""The longest reason for which a frame is refused, in characters."""


def frames_per_second(runs_per_second: float) -> float:
    """How much a satellite may say whose schedules make so many runs, each of which may ask for secrets and reports.

    Twice that, for what has waited while there was no connection.
    """
    return MAX_FRAMES_PER_SECOND + FRAMES_PER_RUN * runs_per_second
