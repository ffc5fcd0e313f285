"""Runs that a plugin asks for in its own transaction, under ids of its own, with secrets just in time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest
from ringfence import PluginContext, PluginInfo, hookimpl
from ringfence.scripts import Mask, RunResult, ScriptKind, Task
from ringfence.testing import Host, PluginFactory, RunHost, eventually, installed
from ringfence_satellite.protocol import (
    CancelRun,
    PlacedTask,
    RequestRunSecrets,
    RunFinished,
    RunScript,
    RunSecrets,
)
from ringfence_satellite.service import (
    AssignedSatellite,
    RunEnd,
    RunFailed,
    RunOutcome,
    RunSecretSource,
    Satellites,
    SecretsUnavailable,
    UnknownSatellite,
)
from ringfence_satellite.testing import FakeSatellite, fake_satellite

from tests.primitives import requires
from tests.satellite.conftest import StartInstance
from tests.satellite.test_agent_process import agent


class Asker:
    """A plugin that asks for runs, and has secrets for some of them."""

    info = PluginInfo(id="asker", version="1", requires=("satellite",))

    def __init__(self) -> None:
        self.secrets: dict[UUID, dict[str, str]] = {}
        self.asked_for: list[UUID] = []
        self.broken: set[UUID] = set()

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context
        context.services.extend(RunSecretSource, self)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        self.satellites = context.services.get(Satellites)

    async def run_secrets(self, satellite: AssignedSatellite, run: UUID) -> Mapping[str, str] | None:
        self.asked_for.append(run)
        if run in self.secrets and not self.secrets[run]:
            raise SecretsUnavailable("the vault is closed")
        return self.secrets.get(run)

    async def run_mask(self, run: UUID) -> Mask | None:
        if run in self.broken:
            raise SecretsUnavailable("the vault is closed")
        return None

    async def ask(
        self, fake: FakeSatellite, frame: RunScript, id: UUID, *, has_secrets: bool = False
    ) -> bool:
        async with self.context.sessions.begin() as session:
            return await self.satellites.ask(
                UUID(fake.id), frame, id=id, session=session, has_secrets=has_secrets
            )

    async def ended(self, id: UUID) -> RunEnd:
        async def found() -> RunEnd | None:
            return await self.satellites.outcome(id)

        end = await eventually(found)
        assert end is not None
        return end


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [*installed("satellite"), Asker()]


def asker_of(host: Host) -> Asker:
    [asker] = [one.plugin for one in host.plugins if isinstance(one.plugin, Asker)]
    return asker


def echo(run_id: str = "-") -> RunScript:
    return RunScript(run_id=run_id, kind=ScriptKind.SHELL, script="echo hi")


async def test_a_run_is_asked_for_once_however_often_and_ends_in_the_askers_words(run_host: RunHost) -> None:
    host = await run_host()
    asker = asker_of(host)
    async with fake_satellite(host) as fake:
        never, once, two = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        async with asker.context.sessions() as session:
            await asker.satellites.ask(UUID(fake.id), echo(), id=never, session=session)
            await session.rollback()
        with pytest.raises(RunFailed):
            await asker.satellites.outcome(never)
        assert await asker.ask(fake, echo(), once)
        assert not await asker.ask(fake, echo(), once)
        both = await asyncio.gather(asker.ask(fake, echo(), two), asker.ask(fake, echo(), two))
        assert sorted(both) == [False, True]
        assert await asker.satellites.outcome(once) is None
        asked = [await fake.answer_run(stdout="a"), await fake.hear(RunScript)]
        assert [one.run_id for one in asked] == [str(once), str(two)]
        end = await asker.ended(once)
        assert (end.outcome, end.result and end.result["stdout"]) == (RunOutcome.FINISHED, "a")
        assert not await asker.ask(fake, echo(), once)
        # Who cannot say what is secret in a result has its output left out.
        asker.broken.add(two)
        await fake.say(RunFinished.of(str(two), {"exitCode": 0, "stdout": "x", "sandbox": {}}))
        end = await asker.ended(two)
        assert (end.outcome, end.result and end.result["stdout"]) == (RunOutcome.FINISHED, "")
        with pytest.raises(UnknownSatellite):
            async with asker.context.sessions.begin() as session:
                await asker.satellites.ask(uuid.uuid4(), echo(), id=uuid.uuid4(), session=session)


async def test_a_cancelled_run_is_ended_where_it_is_and_gets_no_secrets_any_more(run_host: RunHost) -> None:
    host = await run_host()
    asker = asker_of(host)
    task = PlacedTask(kind=ScriptKind.SHELL, script="echo $A", secrets={"A": "{v0}"})
    async with fake_satellite(host) as fake:
        id = uuid.uuid4()
        asker.secrets[id] = {"v0": "s3cret-value"}
        frame = RunScript.carrying_out(task, run_id="-", timeout_ms=1000, config_id=None)
        await asker.ask(fake, frame, id, has_secrets=True)
        asked = await fake.hear(RunScript)
        assert "s3cret" not in asked.encode()

        async def secrets_of(config_id: str | None) -> RunSecrets:
            await fake.say(RequestRunSecrets(request_id="r", config_id=str(config_id)))
            return await fake.hear(RunSecrets)

        assert (await secrets_of(asked.config_id)).env == {"v0": "s3cret-value"}
        assert (await secrets_of(f"run:{uuid.uuid4()}")).env is None
        async with asker.context.sessions.begin() as session:
            await asker.satellites.cancel(id, session=session)
        await fake.hear(CancelRun)
        refused = await secrets_of(asked.config_id)
        assert refused.env is None
        assert "cancelled" in str(refused.error)
        assert asker.asked_for == [id]


@requires("user namespaces")
async def test_a_real_agent_asks_for_a_runs_secrets_and_gives_the_context_and_the_variables(
    start_instance: StartInstance, tmp_path: Path
) -> None:
    instance = await start_instance()
    asker = asker_of(instance.host)
    satellite = await instance.register(vars={"disk": "80"})
    script = """
import os
def main(context):
    assert os.environ["TOKEN"].startswith("Bearer ")
    print(os.environ["TOKEN"], os.environ["RINGFENCE_TRIGGER_STATUS"], os.environ["RINGFENCE_VARS_DISK"])
    print(os.environ["TOKEN"].removeprefix("Bearer "))
    return [context["trigger"], context["satellite"]["name"]]
"""
    task = PlacedTask.of(Task(kind=ScriptKind.PYTHON, script=script, secrets={"TOKEN": "{v0}"}), {}, {})
    frame = RunScript.carrying_out(
        task,
        run_id="-",
        timeout_ms=20_000,
        config_id=None,
        variables={"RINGFENCE_TRIGGER_STATUS": "down"},
        context={"trigger": {"status": "down"}},
    )
    async with agent(instance, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        id, refused = uuid.uuid4(), uuid.uuid4()
        asker.secrets = {id: {"v0": "Bearer s3cret-value", "r0": "s3cret-value"}, refused: {}}
        async with asker.context.sessions.begin() as session:
            for each in (id, refused):
                await asker.satellites.ask(
                    UUID(satellite.id), frame, id=each, session=session, has_secrets=True
                )
        end = await asker.ended(id)
        result = RunResult.model_validate(end.result)
        assert result.stdout == "*** down 80\n***\n", result
        assert result.value == [{"status": "down"}, "edge-1"]
        assert "the vault is closed" in str((await asker.ended(refused)).reason)
