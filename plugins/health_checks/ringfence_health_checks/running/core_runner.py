"""Checks that run on the core: on one instance of the fleet, by the same timetable as on a satellite."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

import structlog
from ringfence import Leadership, PluginContext
from ringfence.redaction import describe
from ringfence.scripts import NoSecretsError, Scheduler, carry_out, run
from ringfence_secrets.service import SecretError, Secrets
from sqlalchemy.exc import SQLAlchemyError

from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.definitions.definition import CORE
from ringfence_health_checks.results.results import Result, Results
from ringfence_health_checks.running.kept_states import KeptStates

RETRY_SECONDS = 1.0
CORE_FACTS: Mapping[str, str] = {"satellite.name": CORE}
"""What a run on the core is told of its place."""
MOST_WAITING = 10_000
"""How many results wait in memory while the database takes none; then the oldest are given up."""
_log = structlog.get_logger("ringfence.health_checks")


class CoreRunner:
    """Runs checks in this process, under the policy of this process; and, as the leader, all that are placed here."""

    def __init__(
        self,
        context: PluginContext,
        leadership: Leadership,
        results: Results,
        *,
        also_lead: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`also_lead` is what the leader does besides, until it is cancelled."""
        self._context = context
        self._leadership = leadership
        self._results = results
        self._states = KeptStates(context)
        self._also_lead = also_lead
        self._checks: dict[str, Check] = {}
        self._scheduler = Scheduler(self._scheduled)
        self._waiting: deque[Result] = deque(maxlen=MOST_WAITING)
        self._wanted = asyncio.Event()
        self._none_waits = asyncio.Event()
        self._none_waits.set()

    def replace(self, checks: Iterable[Check]) -> None:
        """Have exactly these of the checks scheduled that run on the core."""
        placed = [one for one in checks if one.definition.enabled and one.definition.runs_on.core]
        self._checks = {str(check.id): check for check in placed}
        self._scheduler.replace({str(check.id): check.definition.schedule for check in placed})

    async def serve(self) -> None:
        """Run what is due whenever this instance leads, and thin old results; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            # Also of an instance that leads no longer: what it has found out still counts.
            tasks.create_task(self._store_until_cancelled(), name="results of the core")
            await self._leadership.serve(self._lead)

    async def finish(self) -> None:
        """Begin no further check; return when those that run have ended, and their results are stored."""
        await self._scheduler.finish()
        await self._none_waits.wait()

    async def run(self, check: Check) -> Result:
        """Run a check once, now, in this process. The result is not stored yet."""
        definition = check.definition
        carried = await carry_out(
            definition,
            {**CORE_FACTS, **definition.facts},
            secrets=self._secrets,
            run=run,
            timeout_ms=definition.timeout_ms,
            state=self._states.of(check.id),
        )
        return Result.of(check.id, CORE, definition.system, carried)

    async def _secrets(self, names: Collection[str]) -> Mapping[str, str]:
        try:
            return await self._context.services.get(Secrets).get(names)
        except SecretError as error:
            raise NoSecretsError(str(error)) from error

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._scheduler.run_until_cancelled(), name="core's checks")
            tasks.create_task(self._also_lead(), name="watch over checks")

    async def _scheduled(self, id: str) -> None:
        # The timer that ends a lost leadership may be late, where this process was; this is not.
        if not self._leadership.leads:
            return
        check = self._checks[id]
        result = await self.run(check)
        if len(self._waiting) == MOST_WAITING:
            _log.error(
                "a result of the core is lost: too many wait for the database", check=check.definition.name
            )
        self._waiting.append(result)
        self._none_waits.clear()
        self._wanted.set()

    async def _store_until_cancelled(self) -> None:
        """Store what comes, in order. A database that fails is waited for, and the results wait here."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                result = self._waiting[0]
                try:
                    await self._results.store(result)
                except (SQLAlchemyError, OSError) as error:
                    _log.warning(
                        "results of the core wait for the database",
                        results=len(self._waiting),
                        error=describe(error),
                    )
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if self._waiting and self._waiting[0] is result:
                    self._waiting.popleft()
            self._none_waits.set()
