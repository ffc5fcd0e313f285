"""How what a script gives back is read: pure functions from a run's result to a verdict.

Where to look: `formats` has the rules, `assertions` what a check may claim besides, `nagios`, `exposition` and
`documents` the three languages that output may be written in.
"""

from ringfence.scripts.reading.assertions import Assertion, AssertionSyntaxError
from ringfence.scripts.reading.formats import Format, read
from ringfence.scripts.reading.health import Health, worst
from ringfence.scripts.reading.metrics import Metric, read_metrics
from ringfence.scripts.reading.verdict import Outcome, Verdict, shortened, unknown

__all__ = [
    "Assertion",
    "AssertionSyntaxError",
    "Format",
    "Health",
    "Metric",
    "Outcome",
    "Verdict",
    "read",
    "read_metrics",
    "shortened",
    "unknown",
    "worst",
]
