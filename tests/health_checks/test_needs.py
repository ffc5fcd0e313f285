"""What a check says that it needs: judged when it is written, and had in each place, no more and no less."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import Needs
from ringfence.scripts import ScriptKind, ScriptRequest, Task
from ringfence_health_checks.definitions.definition import Definition
from ringfence_satellite.protocol import NARROWED, TASK, Assignment, PlacedTask, RunScript
from ringfence_satellite.protocol.from_host import NEEDS_WITHIN, needs_of

from tests.health_checks.conftest import CHECKS, Checking, agent, definition
from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.shared_hosts import SHARED

needs_sandbox = requires("user namespaces")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the host with two files, which everybody may read."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-needs-", dir="/var/tmp"))
    directory.chmod(0o755)
    for name in ("one", "two"):
        (directory / name).write_text("")
    yield directory
    shutil.rmtree(directory)


def seldom(place: Path, **fields: Any) -> dict[str, Any]:
    """A check that tells what it sees of that directory."""
    script = f"echo saw $(ls {place})"
    return {"intervalSeconds": 3600, "script": script, "needs": {"hostPaths": [f"{place}/one"]}, **fields}


def showing(place: Path) -> dict[str, Any]:
    return {"filesystem": {"hostPaths": [str(place)]}}


@SHARED
async def test_a_check_that_needs_more_than_the_policy_gives_is_refused_with_the_lines(
    instance: Instance, checking: Checking
) -> None:
    await instance.set_policy({"network": {"allow": ["*.example.com:443"]}})
    needs = {"network": ["api.example.com:443", "api.example.com:80"], "memoryBytes": 2**34}

    refused = await instance.api.post(CHECKS, json=definition(needs=needs))

    assert refused.status_code == 422
    lines = ['network.allow: "api.example.com:80"', "resources.memoryBytes: 17179869184"]
    assert refused.json()["missing"] == lines
    assert "; ".join(lines) in refused.json()["detail"]
    assert (await instance.api.get(CHECKS)).json()["checks"] == []

    check = await checking.create(needs={"network": ["api.example.com:443"]})
    assert check["needs"] == {"network": ["api.example.com:443"]}
    assert (await instance.api.get(CHECKS)).json()["checks"][0]["needs"] == check["needs"]
    path = f"{CHECKS}/{check['id']}"
    assert (await instance.api.patch(path, json={"needs": needs})).status_code == 422
    assert (await checking.change(check, needs={}))["needs"] == {}
    assert "needs" not in await checking.change(check, needs=None)


@SHARED
async def test_what_are_no_needs_is_told_with_its_place(instance: Instance) -> None:
    answer = await instance.api.post(CHECKS, json=definition(needs={"network": ["1.2.3"], "disk": 1}))
    assert answer.status_code == 422
    assert "/body/needs/network/0" in answer.text
    assert "/body/needs/disk" in answer.text


@SHARED
async def test_one_that_the_policy_gives_too_little_by_now_can_still_be_changed_otherwise(
    instance: Instance, checking: Checking
) -> None:
    await instance.set_policy({"network": {"allow": ["api.example.com:443"]}})
    check = await checking.create(needs={"network": ["api.example.com:443"]})
    await instance.set_policy({"network": {"allow": []}})

    assert (await checking.change(check, enabled=False))["enabled"] is False
    answer = await instance.api.patch(
        f"{CHECKS}/{check['id']}", json={"needs": {"network": ["api.example.com:443"], "cpuSeconds": 1}}
    )
    assert answer.json()["missing"] == ['network.allow: "api.example.com:443"']


@needs_sandbox
@pytest.mark.slow
async def test_everywhere_it_has_what_it_needs_and_is_refused_when_the_policy_gives_less(
    instance: Instance, checking: Checking, place: Path, tmp_path: Path
) -> None:
    revision = await instance.set_policy(showing(place))
    satellite = await instance.register("web", tags=["web"])
    async with agent(instance.url, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["appliedRevision"] == revision)
        check = await checking.create(**seldom(place, runsOn={"core": True, "tags": ["web"]}))
        # Its schedules run it at once, in both places.
        scheduled = await checking.until(check, lambda results: len({one["ranOn"] for one in results}) == 2)
        for result in [*scheduled, *await checking.run(check)]:
            assert (result["status"], result["message"]) == ("healthy", "saw one"), result
        for result in scheduled:
            assert result["sandbox"]["needs"] == {"hostPaths": [f"{place}/one"]}
            assert result["sandbox"]["requested"]["filesystem"]["hostPaths"] == [str(place)]

        revision = await instance.set_policy({"filesystem": {"hostPaths": [f"{place}/two"]}})
        await instance.until(satellite, lambda one: one["appliedRevision"] == revision)
        attempts = await checking.run(check)
        assert len(attempts) == 2
        for attempt in attempts:
            assert attempt["status"] == "unknown"
            assert f'the policy lacks filesystem.hostPaths: "{place}/one"' in attempt["message"]


@needs_sandbox
@SHARED
async def test_a_run_that_is_asked_for_has_what_it_needs(
    instance: Instance, place: Path, tmp_path: Path
) -> None:
    revision = await instance.set_policy(showing(place))
    satellite = await instance.register("web")
    async with agent(instance.url, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["appliedRevision"] == revision)
        script = f"ls {place}"
        narrowed = await instance.run(satellite, script=script, needs={"hostPaths": [f"{place}/two"]})
        assert narrowed["result"]["stdout"] == "two\n"
        assert narrowed["result"]["sandbox"]["needs"] == {"hostPaths": [f"{place}/two"]}
        refused = await instance.run(satellite, script=script, needs={"hostView": ["disks"]})
        assert refused["result"]["stopped"] == "refused"
        assert 'filesystem.hostView: "disks"' in refused["result"]["sandbox"]["downgrades"][0]["reason"]


@needs_sandbox
@SHARED
async def test_where_the_policy_requires_needs_what_does_not_say_sees_nothing(
    instance: Instance, checking: Checking, place: Path
) -> None:
    await instance.set_policy({**showing(place), "needsRequired": True})
    silent = await checking.create(**seldom(place, needs=None), name="silent")
    saying = await checking.create(**seldom(place))
    [attempt] = await checking.run(silent)
    assert attempt["message"] == "saw"
    assert any("needsRequired" in note for note in attempt["notes"])
    [attempt] = await checking.run(saying)
    assert attempt["message"] == "saw one"


# How it is told to satellites, and kept


@pytest.mark.parametrize("needs", [Needs(), Needs(network=("api.example.com:443",))])
def test_an_agent_that_knows_nothing_of_needs_cannot_take_what_has_some(needs: Needs) -> None:
    task = Task(kind=ScriptKind.SHELL, script="true", needs=needs)
    placed = PlacedTask.of(task, {}, {})
    assert not placed.is_plain
    parts = placed.parts()
    assert "script" not in parts
    # One that needs nothing says so: without the word, it would have all that the policy gives.
    assert parts["task"]["needs"] == needs.to_wire()
    wire = Assignment(config_id="a", system_id="b", interval_seconds=1.0, **parts).to_wire()
    assert Assignment.read(wire).work().needs == needs
    frame = RunScript.carrying_out(placed, run_id="r", timeout_ms=1, config_id=None).encode()
    assert needs_of(frame[:NEEDS_WITHIN]) == {TASK, NARROWED}
    asked = RunScript.asking_for("r", ScriptRequest(ScriptKind.SHELL, "true", needs=needs)).encode()
    assert needs_of(asked[:NEEDS_WITHIN]) == {TASK, NARROWED}


def test_what_says_nothing_of_needs_is_told_as_ever() -> None:
    placed = PlacedTask.of(Task(kind=ScriptKind.SHELL, script="true"), {}, {})
    assert placed.is_plain
    assert "needs" not in placed.parts()["task"]


def test_a_check_is_stored_with_its_needs_and_without_the_word_if_it_has_none() -> None:
    for needs in (None, {}, {"network": ["bücher.example:443"], "memoryBytes": 2**26}):
        written = Definition.model_validate(definition(needs=needs))
        wire = written.to_wire()
        assert wire.get("needs") == needs
        assert ("needs" in wire) == (needs is not None)
        assert Definition.stored(wire).needs == written.needs
