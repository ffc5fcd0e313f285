"""Automations from their definition to their end: real scripts, a real agent, and what one step tells the next."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import httpx
import pytest
from ringfence.testing import PluginFactory, eventually
from ringfence_automations.plugin import AutomationsPlugin
from ringfence_automations.runs.starting import TriggerFact
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin

from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.satellite.test_agent_process import agent, until_running

pytestmark = requires("user namespaces")

SECRET = "correct-horse-battery"
DEFINITION = """
name: restart-web
inputs:
  what: {type: string, default: web}
steps:
  - id: hostile
    run_shell:
      script: |
        echo '{{ secrets.deploy }} {text-0} $(id)'
  - id: far
    run_script:
      kind: python
      on: {selector: "role=gateway"}
      args: ["{{ artifacts.hostile.stdout }}"]
      secrets: {TOKEN: "Bearer {{ secrets.deploy }}"}
      script: |
        import os, sys
        def main(context):
            print(os.environ["TOKEN"], sys.argv[1].strip(), os.environ["RINGFENCE_INPUT_WHAT"])
            return context["artifacts"]["hostile"]["exitCode"]
  - id: near
    when: artifacts.far.succeeded == 1
    run_shell:
      script: echo "$RINGFENCE_ARTIFACT_FAR_SATELLITES_EDGE_1_VALUE"; echo correct-horse-battery
"""


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(), SatellitePlugin(), SecretsPlugin(), AutomationsPlugin()]


async def apply(instance: Instance, text: str) -> None:
    applied = await instance.api.post("/api/automations/apply", json={"text": text})
    assert applied.status_code == 200, applied.text


async def start(instance: Instance, name: str, inputs: dict[str, Any]) -> str:
    """The id of a run that somebody has started by hand."""
    [plugin] = [one.plugin for one in instance.host.plugins if isinstance(one.plugin, AutomationsPlugin)]
    runs = plugin.rooms[1]
    async with runs._context.sessions.begin() as session:
        fact = TriggerFact(kind="manual", time=dt.datetime.now(dt.UTC))
        id = await runs.engine.start(session, name, 1, trigger=fact, event={}, inputs=inputs)
    return str(id)


async def ended(api: httpx.AsyncClient, run: str) -> dict[str, Any]:
    """The run, once it has ended."""

    async def found() -> dict[str, Any] | None:
        shown: dict[str, Any] = (await api.get(f"/api/automations/runs/{run}")).json()
        return shown if shown["endedAt"] else None

    shown = await eventually(found)
    assert shown is not None
    return shown


async def test_a_run_goes_from_step_to_step_and_tells_no_secret(instance: Instance, tmp_path: Path) -> None:
    api = instance.api
    await api.put("/api/secrets/secrets/deploy", json={"value": SECRET})
    satellite = await instance.register(labels={"role": "gateway"})
    async with agent(instance, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        await apply(instance, DEFINITION)
        run = await ended(api, await start(instance, "restart-web", {"what": "web"}))
    steps = (await api.get(f"/api/automations/runs/{run['id']}/steps")).json()["steps"]
    assert run["status"] == "succeeded", steps
    artifacts = {step["path"]: step["artifact"] for step in steps}
    far = artifacts["far"]["satellites"]["edge-1"]
    # What a script has written is data: no template, no placeholder, no command.
    assert far["stdout"] == "*** {{ secrets.deploy }} {text-0} $(id) web\n"
    assert (far["value"], far["enforced"]["network"]) == (0, True)
    assert artifacts["near"]["stdout"] == "0\n***\n"
    users = (await api.get("/api/secrets/secrets/deploy/users")).json()
    assert users["users"] == ["automation restart-web"]
    assert SECRET not in (await api.get(f"/api/automations/runs/{run['id']}/output")).text


LONG = """
name: long
steps:
  - id: here
    parallel:
      branches:
        - [{id: near, run_shell: {script: exec sleep 27182818}}]
        - [{id: far, run_shell: {script: exec sleep 31415926, on: edge-1}}]
"""


@pytest.mark.slow
async def test_a_cancelled_run_ends_its_scripts_wherever_they_run(instance: Instance, tmp_path: Path) -> None:
    satellite = await instance.register()
    async with agent(instance, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        await apply(instance, LONG)
        run = await start(instance, "long", {})
        for mark in ("27182818", "31415926"):
            await until_running(mark, wanted=True)
        (await instance.api.post(f"/api/automations/runs/{run}/cancel")).raise_for_status()
        for mark in ("27182818", "31415926"):
            await until_running(mark, wanted=False)
        assert (await ended(instance.api, run))["status"] == "cancelled"
