"""One scrape: everybody who has metrics is asked, and what they answer is written as Prometheus reads it.

Threat: a plugin's metrics take for ever, fail, or are too many, and with them those of everybody else are lost just
when they are needed; or many scrapes at once keep the database busy. Mechanism: all are asked side by side, each has
`SECONDS`; whoever gives no answer, or none that can be told, is left out of this scrape, logged and counted; one that
has not come to an end is not asked anew meanwhile. Scrapes within `FRESH_SECONDS` share their answer. Not covered: code
that does not let go of the event loop.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder

from ringfence.counting import Counts
from ringfence.metrics.families import counter
from ringfence.redaction import describe

SECONDS = 1.0
FRESH_SECONDS = 1.0
MOST_SAMPLES = 2000
"""Of each of those who are asked."""
LOG_SECONDS = 60.0
"""How often at most it is logged that somebody was left out."""
_NAME = re.compile(r"ringfence_[a-z0-9]+(_[a-z0-9]+)*|process_[a-z_]+")
_log = structlog.get_logger("ringfence.metrics")

Collect = Callable[[], Awaitable[Sequence[Metric]]]
Asked = Callable[[], Mapping[str, Collect]]
"""Who is to be asked, by plugin, in the order in which they are told."""


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """What was gathered, as a registry wants it."""

    families: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.families


@dataclass(slots=True)
class Scraping:
    """The metrics of one process."""

    asked: Asked
    seconds: float = SECONDS
    fresh_seconds: float = FRESH_SECONDS
    failed: Counts = field(default_factory=Counts)
    _pending: dict[str, asyncio.Task[Sequence[Metric]]] = field(default_factory=dict)
    _logged: dict[str, float] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _last: tuple[float, Sequence[Metric]] | None = None

    async def text(self, accept: str = "") -> tuple[bytes, str]:
        """All of them, written as `accept` asks, and the media type of that."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Given(await self.families()))
        encode, kind = choose_encoder(accept)
        return await asyncio.to_thread(encode, registry), kind

    async def families(self) -> Sequence[Metric]:
        """All of them."""
        async with self._turn:
            if self._last is None or time.monotonic() - self._last[0] >= self.fresh_seconds:
                found = await self._gather()
                self._last = time.monotonic(), found
            return self._last[1]

    async def _gather(self) -> Sequence[Metric]:
        collectors = self.asked()
        tasks = {who: self._ask(who, collect) for who, collect in collectors.items()}
        waiting = [task for task in tasks.values() if task is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=self.seconds)
        found: dict[str, Metric] = {}
        for who, task in tasks.items():
            try:
                if task is None or not task.done():
                    raise TimeoutError(f"it did not answer within {self.seconds:g} s")
                told = [_checked(one) for one in task.result()]
                families = {one.name: one for one in told}
                if len(families) < len(told):
                    # Also where a gauge is called like a counter is without its _total.
                    raise ValueError(f"it tells {_twice(told)} twice")
                if sum(len(one.samples) for one in families.values()) > MOST_SAMPLES:
                    raise ValueError(f"it has more than {MOST_SAMPLES} values")
                if taken := sorted(families.keys() & found.keys()):
                    raise ValueError(f"{taken[0]} is told by another already")
            except (Exception, asyncio.CancelledError) as error:
                if task is not None and not task.done():
                    task.cancel()
                self._left_out(who, error)
            else:
                found |= families
        failed = counter(
            "ringfence_metrics_failed_total",
            "Scrapes that went without the metrics of a plugin: it has failed, or was too slow",
            {**{(who,): 0.0 for who in collectors}, **dict(self.failed.items())},
            labels=["plugin"],
        )
        return [*found.values(), failed]

    def _ask(self, who: str, collect: Collect) -> asyncio.Task[Sequence[Metric]] | None:
        """Ask one; None while it has not come to an end with what it was asked before."""
        if (before := self._pending.get(who)) is not None and not before.done():
            return None

        async def ask() -> Sequence[Metric]:
            return await collect()

        task = self._pending[who] = asyncio.create_task(ask(), name=f"{who}: metrics")
        # Whatever becomes of one that was left behind was told when it was.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _left_out(self, who: str, error: BaseException) -> None:
        self.failed.add(who)
        now = time.monotonic()
        if now - self._logged.get(who, float("-inf")) >= LOG_SECONDS:
            self._logged[who] = now
            _log.warning("metrics of a plugin are left out", plugin=who, error=describe(error))


def _twice(families: Sequence[Metric]) -> str:
    names = [one.name for one in families]
    return next(name for name in names if names.count(name) > 1)


def _checked(family: Metric) -> Metric:
    """A family of samples that may be told. Raises `TypeError` and `ValueError`."""
    if not isinstance(family, Metric):
        raise TypeError(f"it answered a {type(family).__name__}, which is no ringfence.metrics.Metric")
    if _NAME.fullmatch(family.name) is None:
        raise ValueError(
            f"the name {family.name!r} is none of ours: it must begin with ringfence_, in lower case"
        )
    # When a counter was made says nothing that the process's own start does not.
    family.samples = [one for one in family.samples if not one.name.endswith("_created")]
    return family
