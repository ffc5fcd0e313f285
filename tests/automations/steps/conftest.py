"""The kinds of steps on a real host, with an engine that only notes how steps end."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from ringfence import Mode, PluginContext, PluginInfo, Registry, hookimpl
from ringfence.testing import Host, PluginFactory, eventually
from ringfence.web import Principal
from ringfence_automations.runs.tables import kept_output
from ringfence_automations.service import Elsewhere, StepKind, StepRequest, StepResult
from ringfence_automations.steps.http_steps import HttpSteps
from ringfence_automations.steps.notify_steps import NotifySteps
from ringfence_automations.steps.on_satellites import OnSatellites
from ringfence_automations.steps.performing import Performing
from ringfence_automations.steps.script_steps import ScriptSteps
from ringfence_automations.steps.secrets import RunSecrets
from ringfence_satellite.hooks import satellite_deleted, satellite_run_finished
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_satellite.service import RunSecretSource
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.satellite.conftest import StartInstance, instance, own, start_instance

__all__ = ["StartInstance", "instance", "own", "start_instance"]

ALL = frozenset({"satellite.script.run", "secrets.secret.use"})
_RUN = text("""
    INSERT INTO automations_runs (id, automation, revision, mode, most, key, status, trigger, event, inputs)
    VALUES (:id, 'restart-web', 1, 'single', 1, '', 'running', '{}', '{}', '{}')
""")


@dataclass(eq=False)
class Doing:
    """A plugin that has steps carried out, as the engine does, and notes their ends."""

    info = PluginInfo(id="automations", version="1", requires=("satellite", "secrets"))
    rules: frozenset[str] = ALL
    ends: dict[tuple[UUID, str, int], StepResult] = field(default_factory=dict)
    written: list[tuple[str, str]] = field(default_factory=list)

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.migrations("ringfence_migrations.automations")
        registry.extension_point(StepKind)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context
        self.start_over()
        context.services.extend(RunSecretSource, self)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        context.on_hook(satellite_run_finished, self._finished, mode=Mode.WORK_QUEUE, worker_group="ends")
        context.on_hook(satellite_deleted, self._deleted, mode=Mode.WORK_QUEUE, worker_group="gone")

    def start_over(self) -> None:
        """As on another instance: nothing is in memory."""
        secrets = RunSecrets(self.context)
        self.on_satellites = OnSatellites(
            self.context, secrets, self._acts_for, tell=self._ended, keep=self._keep
        )
        kinds = [ScriptSteps(name, self.on_satellites, secrets) for name in ("run_shell", "run_script")]
        self.performing = Performing(
            self.context,
            [*kinds, HttpSteps(secrets, self._leads_here), NotifySteps(self.context, secrets)],
            secrets,
            write_output=self._write,
            tell=self._ended,
        )

    async def run_secrets(self, satellite: Any, run: UUID) -> Any:
        return await self.on_satellites.run_secrets(satellite, run)

    async def run_mask(self, run: UUID) -> Any:
        return await self.on_satellites.run_mask(run)

    async def _leads_here(self, secret: str) -> bool:
        return secret == "rfh_ours"

    async def begin(self) -> UUID:
        """A run that is under way."""
        id = uuid.uuid4()
        async with self.context.sessions.begin() as session:
            await session.execute(_RUN, {"id": id})
        return id

    def request(
        self, session: AsyncSession, run: UUID, kind: str, path: str, seconds: float, event: Any, body: Any
    ) -> StepRequest:
        values = {
            "event": event,
            "trigger": {"kind": "hook", "hook": "health-state-changed"},
            "inputs": {"size": 3},
            "artifacts": {"look": {"exitCode": 0}},
            "run": {"id": str(run)},
        }

        async def acts_for() -> Principal:
            return await self._acts_for("restart-web", 1)

        deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        return StepRequest(run, path, 1, "restart-web", 1, kind, body, values, acts_for, deadline, session)

    async def perform(
        self,
        kind: str,
        /,
        *,
        run: UUID | None = None,
        path: str = "restart",
        seconds: float = 20.0,
        event: Any = None,
        **body: Any,
    ) -> StepResult | Elsewhere:
        """What the engine is answered, in whose transaction the step is performed."""
        run = run or await self.begin()
        async with self.context.sessions.begin() as session:
            request = self.request(session, run, kind, path, seconds, event or {}, body)
            return await self.performing.perform(request)

    async def cancel(self, run: UUID, kind: str, path: str = "restart", **body: Any) -> None:
        async with self.context.sessions.begin() as session:
            await self.performing.cancel(self.request(session, run, kind, path, 20.0, {}, body))

    async def end(self, run: UUID, path: str = "restart") -> StepResult:
        """How a step has ended that went on elsewhere."""

        async def found() -> StepResult | None:
            return self.ends.get((run, path, 1))

        end = await eventually(found)
        assert end is not None
        return end

    async def everything_stored(self) -> str:
        """All that is in the tables of this plugin and of the satellites' runs, as one text."""
        tables = (
            "automations_run_secrets",
            "automations_elsewhere",
            "automations_places",
            "satellite_runs",
            "events",
        )
        async with self.context.sessions() as session:
            rows = [
                one
                for table in tables
                for one in (
                    await session.execute(text(f"SELECT to_jsonb(t)::text FROM {table} AS t"))
                ).scalars()
            ]
        return "\n".join(rows)

    async def _acts_for(self, automation: str, revision: int) -> Principal:
        return Principal("ops", self.rules)

    async def _ended(
        self, session: AsyncSession, run: UUID, path: str, attempt: int, result: StepResult
    ) -> None:
        assert (run, path, attempt) not in self.ends
        self.ends[run, path, attempt] = result

    async def _write(self, run: UUID, path: str, attempt: int, pieces: Sequence[tuple[str, str]]) -> None:
        self.written.extend(pieces)

    async def _keep(
        self, session: AsyncSession, run: UUID, path: str, attempt: int, pieces: Sequence[tuple[str, str]]
    ) -> None:
        for stream, piece in pieces:
            await kept_output.add(session, run, path, attempt, stream=stream, text=piece)

    async def _finished(self, event: Any, session: AsyncSession) -> None:
        await self.on_satellites.run_finished(event, session)

    async def _deleted(self, event: Any, session: AsyncSession) -> None:
        await self.on_satellites.satellite_deleted(event, session)


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(), SatellitePlugin(), SecretsPlugin(), Doing()]


def doing_of(host: Host) -> Doing:
    [doing] = [one.plugin for one in host.plugins if isinstance(one.plugin, Doing)]
    return doing
