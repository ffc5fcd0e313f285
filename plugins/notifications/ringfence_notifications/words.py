"""Words that the pages and the command line have in common."""

from __future__ import annotations

WHY = {
    "already-told": "they were told before",
    "over-before-told": "over before anybody was told",
    "failed-again-before-told": "over, and back before anybody was told",
    "flapping": "changing again and again",
    "no-channel": "there was no channel to tell",
    "less-severe": "less severe than the channel wants",
    "channel-switched-off": "the channel was off",
    "route-switched-off": "the route was switched off or removed",
    "expression-failed": "an expression of the route failed",
}
"""Why an event is in no message."""
