"""What this satellite is assigned: run again and again, under the policy that holds, whether the host is there or not.

It lives as long as the process. A lost connection changes nothing but this: results wait in the spool, and a run that
needs secrets cannot have them, which its result says.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import structlog
from ringfence.scripts import (
    Carried,
    Format,
    NoSecretsError,
    RunResult,
    Scheduler,
    ScriptRequest,
    carry_out,
    unknown,
)

from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.running.place import Place
from ringfence_satellite.agent.scheduled.states import KeptStates
from ringfence_satellite.protocol import Assignment, CheckResult

Run = Callable[[ScriptRequest], Awaitable[RunResult]]
Secrets = Callable[[str], Awaitable[Mapping[str, str]]]
_log = structlog.get_logger("ringfence.satellite.agent")


class Duties:
    """Carries out assignments, and puts a result into the spool for each run."""

    def __init__(
        self,
        run: Run,
        secrets: Secrets,
        spool: Spool,
        place: Place | None = None,
        states: KeptStates | None = None,
    ) -> None:
        self._run = run
        self._secrets = secrets
        self._spool = spool
        self._place = place or Place()
        self._states = states or KeptStates()
        self._assigned: dict[str, Assignment] = {}
        self._scheduler = Scheduler(self._carry_out)

    def assign(self, assignments: Sequence[Assignment], named: Collection[str] | None = None) -> None:
        """Have exactly these assignments from now on. A run of one that is gone is ended, without a result.

        `named` are all that the host has named, those among them that cannot be carried out here; None if it was not
        the host that said so. What others have kept is removed.
        """
        if named is not None:
            self.confirm(named)
        self._assigned = {one.config_id: one for one in assignments}
        self._scheduler.replace({one.config_id: one.schedule for one in assignments})

    def confirm(self, named: Collection[str]) -> None:
        """The host says that these are all assignments."""
        self._states.retain(named)

    async def serve(self) -> None:
        """Carry them out until cancelled."""
        await self._scheduler.run_until_cancelled()

    async def _carry_out(self, config_id: str) -> None:
        duty = self._assigned[config_id]
        executed_at = dt.datetime.now(dt.UTC)
        given: Mapping[str, str] | None = None

        async def secrets(_: Collection[str]) -> Mapping[str, str]:
            return given if given is not None else await self._secrets(config_id)

        try:
            task = duty.work()
            if duty.needs_secrets and duty.task is None:
                # A host of an older release does not name them: each is meant for the variable of its name.
                given = await self._secrets(config_id)
                task = task.model_copy(update={"secrets": {name: f"{{{name}}}" for name in given}})
            carried = await carry_out(
                task,
                {**self._place.facts, **task.facts},
                secrets=secrets,
                run=self._run,
                timeout_ms=duty.timeout_ms,
                state=self._states.of(config_id),
            )
        except NoSecretsError as error:
            carried = Carried(
                unknown(f"not run: its secrets are not available: {error}"), Format.EXIT, executed_at
            )
        except Exception as error:
            # The message may quote the script or a secret.
            _log.error("an assigned run failed", config=config_id, error=type(error).__name__)
            verdict = unknown(f"not run: the runner failed ({type(error).__name__})")
            carried = Carried(verdict, Format.EXIT, executed_at)
        await self._report(duty, carried)

    async def _report(self, duty: Assignment, carried: Carried) -> None:
        result_id = str(uuid.uuid4())
        frame = CheckResult(
            config_id=duty.config_id,
            system_id=duty.system_id,
            status=carried.verdict.status.value,
            latency_ms=carried.latency_ms,
            result={**carried.verdict.to_wire(), **carried.detail()},
            executed_at=carried.executed_at.isoformat(),
            result_id=result_id,
        )
        await self._spool.add(result_id, frame.encode())
