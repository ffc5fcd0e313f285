"""What is told to whom and when, decided without any input or output.

One `Telling` is what one channel knows of one incident. `taken` moves it by what happens; `compose` makes messages of
the tellings of a channel that are due. Whoever calls them keeps the tellings, and sends the messages.
"""

from ringfence_notifications.deciding.allowance import Allowance
from ringfence_notifications.deciding.composing import Composition, Due, Limits, compose
from ringfence_notifications.deciding.messages import Draft, Kind, News
from ringfence_notifications.deciding.quiet_hours import QuietHours
from ringfence_notifications.deciding.tellings import (
    Fact,
    Held,
    Pending,
    Phase,
    Suppressed,
    Telling,
    Timing,
    Why,
    acknowledged,
    taken,
)

__all__ = [
    "Allowance",
    "Composition",
    "Draft",
    "Due",
    "Fact",
    "Held",
    "Kind",
    "Limits",
    "News",
    "Pending",
    "Phase",
    "QuietHours",
    "Suppressed",
    "Telling",
    "Timing",
    "Why",
    "acknowledged",
    "compose",
    "taken",
]
