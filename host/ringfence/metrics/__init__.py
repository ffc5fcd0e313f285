"""What this process tells Prometheus of itself: see the hookspec `metrics`."""

from ringfence.counting import Counts, Distribution, Distributions
from ringfence.metrics.families import Metric, counter, gauge, histogram

__all__ = ["Counts", "Distribution", "Distributions", "Metric", "counter", "gauge", "histogram"]
