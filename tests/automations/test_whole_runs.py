"""From the text of an automation to the end of its runs, with the whole plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ringfence.testing import Host, RunHost, client, installed

API = "/api/automations"
MANAGE = "automations.automation.manage"
COUNT = """
name: count
inputs:
  hosts: {type: array, default: [x, y]}
mode: queued
steps:
  - id: each
    repeat:
      over: inputs.hosts
      as: host
      steps:
        - wait: {for: "0.05s"}
        - id: pick
          choose:
            - when: host == "y"
              steps:
                - stop: {message: "stopped at {{ host }}, number {{ index }}"}
"""
SLOW = """
name: slow
mode: queued
steps:
  - wait: {for: "1h"}
"""

GREET = """
name: greet
inputs:
  whom: {required: true}
steps:
  - {stop: {message: "hello ${inputs.whom}"}}
"""


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=installed("automations"))


@pytest.fixture
async def admin(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as made:
        yield made


async def apply(admin: httpx.AsyncClient, text: str) -> None:
    answer = await admin.post(f"{API}/apply", json={"text": text})
    assert answer.status_code == 200, answer.text


async def start(admin: httpx.AsyncClient, name: str, status: int = 201, **wanted: Any) -> Any:
    answer = await admin.post(f"{API}/automations/{name}/runs", json=wanted)
    assert answer.status_code == status, answer.text
    return answer.json()


async def ended(admin: httpx.AsyncClient, run: str) -> Any:
    return (await admin.get(f"{API}/runs/{run}", params={"wait": 20})).json()


async def test_an_automation_is_started_by_hand_and_does_what_is_written(admin: httpx.AsyncClient) -> None:
    await apply(admin, COUNT)
    run = await start(admin, "count", once="today")
    assert (await start(admin, "count", once="today"))["id"] == run["id"]
    shown = await ended(admin, run["id"])
    assert (shown["status"], shown["message"]) == ("succeeded", "stopped at y, number 1")
    steps = (await admin.get(f"{API}/runs/{run['id']}/steps")).json()["steps"]
    assert [one["path"] for one in steps if one["kind"] == "stop"] == ["each[1].pick.1.step-4"]
    none = await ended(admin, (await start(admin, "count", inputs={"hosts": []}))["id"])
    assert (none["status"], none["message"]) == ("succeeded", None)
    wrong = await start(admin, "count", 422, inputs={"hosts": "x"})
    assert wrong["detail"] == "input hosts must be a value of type array"
    await start(admin, "nothing", 404)
    await apply(admin, GREET)
    empty = await start(admin, "greet", 422, inputs={"whom": " "})
    assert empty["detail"] == "input whom is required, so it must not be empty"


async def test_runs_go_on_when_their_automation_is_deleted_unless_they_are_to_be_cancelled(
    host: Host, admin: httpx.AsyncClient
) -> None:
    await apply(admin, SLOW)
    runs = [(await start(admin, "slow"))["id"] for _ in range(2)]
    assert (await admin.post(f"{API}/automations/slow/disable")).status_code == 200
    assert "is disabled" in (await start(admin, "slow", 409))["detail"]
    assert [(await admin.get(f"{API}/runs/{run}")).json()["status"] for run in runs] == ["running", "queued"]
    async with client(host, rules=[MANAGE]) as manager:
        refused = await manager.delete(f"{API}/automations/slow", params={"cancelRuns": True})
        assert refused.status_code == 403
    deleted = await admin.delete(f"{API}/automations/slow", params={"cancelRuns": True})
    assert deleted.status_code == 204
    for run in runs:
        shown = await ended(admin, run)
        assert (shown["status"], shown["message"]) == ("cancelled", "the automation was deleted")


@pytest.mark.slow
async def test_a_run_ends_under_its_revision_though_its_automation_is_deleted(
    admin: httpx.AsyncClient,
) -> None:
    await apply(admin, SLOW.replace("1h", "1s") + "  - stop: {message: old}\n")
    run = (await start(admin, "slow"))["id"]
    await apply(admin, SLOW)
    assert (await admin.delete(f"{API}/automations/slow")).status_code == 204
    shown = await ended(admin, run)
    assert (shown["status"], shown["message"], shown["revision"]) == ("succeeded", "old", 1)
