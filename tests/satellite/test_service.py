"""The satellite plugin's service, as another plugin uses it: satellites are listed, and scripts run on them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from ringfence import PluginContext, PluginInfo, hookimpl
from ringfence.scripts import RunResult, ScriptRequest
from ringfence.testing import Host, PluginFactory, client, eventually, installed
from ringfence_satellite.service import RunFailed, SatelliteAway, Satellites, UnknownSatellite
from ringfence_satellite.testing import FakeSatellite, fake_satellite

from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.satellite.test_agent_process import agent
from tests.shared_hosts import SHARED

pytestmark = SHARED

SATELLITES = "/api/satellite/satellites"
UPTIME = ScriptRequest(kind="shell", script="uptime")  # type: ignore[arg-type]  # a plain string is taken, too


class Visitor:
    """Another plugin."""

    info = PluginInfo(id="visitor", version="1", requires=("satellite",))

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        self.satellites = context.services.get(Satellites)


@pytest.fixture(scope="module")
def plugins_under_test() -> PluginFactory:
    return lambda: [*installed("satellite"), Visitor()]


def satellites_of(host: Host) -> Satellites:
    [visitor] = [one.plugin for one in host.plugins if isinstance(one.plugin, Visitor)]
    return visitor.satellites


async def register(host: Host, name: str, *tags: str) -> str:
    async with client(host) as admin:
        made = await admin.post(SATELLITES, json={"name": name, "region": "eu", "tags": list(tags)})
        made.raise_for_status()
        return str(made.json()["satellite"]["id"])


async def online(satellites: Satellites, fake: FakeSatellite) -> UUID:
    """The fake's id, once it is known that it is there."""

    async def found() -> list[UUID]:
        return [one.id for one in await satellites.find(ids=[UUID(fake.id)]) if one.status == "online"]

    return (await eventually(found))[0]


async def answered(
    satellites: Satellites, fake: FakeSatellite, request: ScriptRequest, **answer: Any
) -> RunResult:
    """What a plugin gets that asks for a run which the fake answers so."""
    id = await online(satellites, fake)
    async with asyncio.TaskGroup() as both:
        asking = both.create_task(satellites.run_script(id, request))
        both.create_task(fake.answer_run(**answer))
    return asking.result()


async def test_a_plugin_lists_all_satellites_and_runs_a_script_on_one(instance: Instance) -> None:
    host = instance.host
    await register(host, "never-came")
    async with fake_satellite(host, name="edge") as fake:
        satellites = satellites_of(host)
        await online(satellites, fake)
        assert [(one.name, one.status) for one in await satellites.find()] == [
            ("edge", "online"),
            ("never-came", "never"),
        ]
        result = await answered(satellites, fake, UPTIME, exit_code=3, stdout="up 3 days\n")
        assert (result.exit_code, result.stdout, result.refused) == (3, "up 3 days\n", False)


@requires("user namespaces")
async def test_a_real_agent_runs_it_in_its_sandbox_and_gives_the_value_back(
    instance: Instance, tmp_path: Path
) -> None:
    satellite = await instance.register()
    async with agent(instance, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        [one] = await instance.plugin.find()
        request = ScriptRequest(kind="python", script="result = {'twice': 2 * context}", context=21)  # type: ignore[arg-type]
        result = await instance.plugin.run_script(one.id, request)
    assert (result.exit_code, result.value) == (0, {"twice": 42}), result
    assert result.sandbox.enforced.network


@requires("user namespaces")
async def test_a_real_agent_gives_a_script_of_any_kind_what_it_was_given_here(
    instance: Instance, tmp_path: Path
) -> None:
    satellite = await instance.register()
    script = """#!/usr/bin/env bash
        [[ $1 == a* ]] && printf '%s|' "${0##*/}" "$@" "$A" && cat"""
    async with agent(instance, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        [one] = await instance.plugin.find()
        given: dict[str, Any] = {"args": ("a b", "'é"), "env": {"A": "1"}, "stdin": "in\n"}
        result = await instance.plugin.run_script(one.id, ScriptRequest("auto", script, name="disk", **given))  # type: ignore[arg-type]
        assert (result.stdout, result.kind) == ("disk|a b|'é|1|in\n", "bash"), result
        command = ScriptRequest("program", command=("/bin/echo", "hi"))  # type: ignore[arg-type]
        assert (await instance.plugin.run_script(one.id, command)).stdout == "hi\n"


async def test_only_those_are_found_that_are_looked_for(instance: Instance) -> None:
    host = instance.host
    satellites = satellites_of(host)
    await register(host, "a", "web")
    await register(host, "b", "db")
    assert [one.name for one in await satellites.find(tags=["web"])] == ["a"]
    assert await satellites.find(tags=[]) == []
    assert await satellites.find(ids=[], tags=[]) == []


async def test_the_satellite_gets_what_the_request_says(instance: Instance) -> None:
    host = instance.host
    async with fake_satellite(host) as fake:
        request = ScriptRequest(
            kind="python",  # type: ignore[arg-type]
            script=b"result = context",
            context={"a": [1, None]},
            timeout_ms=1234,
        )
        id = await online(satellites_of(host), fake)
        async with asyncio.TaskGroup() as both:
            both.create_task(satellites_of(host).run_script(id, request))
            answering = both.create_task(fake.answer_run())
        asked = answering.result()
        assert (asked.kind, asked.script, asked.timeout_ms) == ("python", "result = context", 1234)
        assert asked.context == {"a": [1, None]}


async def test_a_satellite_that_is_not_there_is_told_by_name(instance: Instance) -> None:
    host = instance.host
    await register(host, "never-came")
    satellites = satellites_of(host)
    [one] = await satellites.find()
    with pytest.raises(SatelliteAway, match="never-came is offline: it has never connected"):
        await satellites.run_script(one.id, UPTIME)
    async with client(host) as admin:
        await admin.delete(f"{SATELLITES}/{one.id}")
    with pytest.raises(UnknownSatellite, match=str(one.id)):
        await satellites.run_script(one.id, UPTIME)


async def test_a_result_that_cannot_be_read_is_a_failed_run_and_quotes_nothing(instance: Instance) -> None:
    host = instance.host
    async with fake_satellite(host) as fake:
        with pytest.RaisesGroup(pytest.RaisesExc(RunFailed, match="sandbox.requested")) as failed:
            await answered(satellites_of(host), fake, UPTIME, sandbox={"requested": "s3cret"})
        assert "s3cret" not in str(failed.value.exceptions[0])


CANNOT_BE_SENT: list[tuple[dict[str, Any], str]] = [
    ({"facts": {"RINGFENCE_CHECK": "b"}}, "cannot have facts"),
    ({"secret_env": {"A": "b"}}, "cannot have secret_env"),
    ({"listen": lambda *_: None}, "cannot have listen"),
    ({"script": b"\xff"}, "utf-8"),
    ({"script": "echo \0"}, "NUL"),
    ({"script": "x" * 9 * 1024 * 1024}, "bytes"),
    ({"context": {"a": float("inf")}}, "context"),
]


async def test_what_cannot_be_sent_is_refused_at_once(instance: Instance) -> None:
    host = instance.host
    async with fake_satellite(host):
        satellites = satellites_of(host)
        [one] = await satellites.find()
        for fields, reason in CANNOT_BE_SENT:
            request = ScriptRequest(**{"kind": "shell", "script": "true", **fields})
            with pytest.raises(ValueError, match=reason):
                await satellites.run_script(one.id, request)
