"""The scripts that people have, as checks: what is run, what it is given, and how it is read. On the real thing."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from ringfence_satellite.protocol import CheckResult

from tests.health_checks.conftest import CHECKS, Checking, agent, definition
from tests.primitives import requires
from tests.satellite.instances import Instance
from tests.shared_hosts import SHARED

pytestmark = SHARED

SECRET = "a secret value that is long"
RARELY = {"intervalSeconds": 3600}


async def ran(checking: Checking, **fields: Any) -> dict[str, Any]:
    """The result of running such a check once, on the core."""
    check = await checking.create(**{"name": "tried", **RARELY, **fields})
    try:
        [one] = await checking.run(check)
    finally:
        await checking.delete(check)
    return one


def state(result: dict[str, Any]) -> tuple[str, str]:
    return result["status"], result["message"]


BASH = """#!/bin/bash
used=97
if [[ $used -gt 90 ]]; then echo CRITICAL; exit 2; fi
echo "OK - disk $used%"
"""


SEEN_AS = [
    # A script is run by what it was written for.
    ({"kind": "shell", "script": BASH}, ("unhealthy", "CRITICAL")),
    ({"kind": "auto", "script": BASH}, ("unhealthy", "CRITICAL")),
    ({"kind": "auto", "script": "[[ 1 ]]", "fileName": "look.sh"}, ("healthy", "")),
    ({"script": '\ufeffset -e\nfalse\necho "OK"'}, ("unhealthy", "exit status 1")),
    ({"script": "set -e\r\nfalse\r\necho OK\r\n"}, ("unhealthy", "exit status 1")),
    # What is meant as a verdict is read, and what is none is a visible fault.
    ({"script": 'printf \'{\\n "status": "degraded"\\n}\\n\''}, ("degraded", "")),
    (
        {
            "kind": "python",
            "script": "import json\nprint(json.dumps({'status': 'degraded', 'message': 'slow'}))",
        },
        ("degraded", "slow"),
    ),
    (
        {"kind": "python", "script": "def main(context):\n    return False"},
        ("unknown", "it must give a verdict, and gave False where an object with a status belongs"),
    ),
    (
        {"kind": "python", "script": "def main(context):\n    return {'state': 'CRITICAL'}"},
        ("unknown", None),
    ),
    ({"kind": "esm", "script": "module.exports = () => ({status: 'degraded'})"}, ("unknown", None)),
    # Somebody else's document is a message.
    ({"script": 'echo \'{"status":"UP"}\''}, ("healthy", '{"status":"UP"}')),
    (
        {"script": 'echo "CRITICAL: replication broken"; echo "psql: warning: x" >&2; exit 2'},
        ("unhealthy", "CRITICAL: replication broken"),
    ),
    ({"kind": "esm", "script": 'throw new Error("db down")'}, ("unhealthy", "Error: db down")),
    (
        {"kind": "python", "script": 'print("asking")\nraise ConnectionError("db down")'},
        ("unhealthy", "ConnectionError: db down"),
    ),
    ({"script": "exit 3", "format": "nagios"}, ("unknown", "exit status 3")),
    ({"script": "echo 'WARNING - slow'; exit 1", "format": "nagios"}, ("degraded", "WARNING - slow")),
    ({"kind": "auto", "script": "#!/usr/bin/nothing-of-this-name\n"}, ("unknown", None)),
    ({"kind": "auto", "script": "nobody knows what"}, ("unknown", None)),
]


@requires("user namespaces")
async def test_a_state_is_what_was_seen(checking: Checking) -> None:
    for number, (fields, expected) in enumerate(SEEN_AS):
        result = await ran(checking, name=f"check-{number}", **fields)
        assert result["status"] == expected[0], (fields, result)
        if expected[1] is not None:
            assert result["message"] == expected[1]


@requires("user namespaces")
async def test_a_plugins_numbers_are_kept_with_their_thresholds(checking: Checking) -> None:
    result = await ran(checking, script="echo 'OK - 12 users |users=12;20;50;0'", format="nagios")
    assert result["metrics"] == {"users": {"value": 12, "warn": "20", "crit": "50", "min": 0}}
    assert result["format"] == "nagios"


@requires("user namespaces")
async def test_assertions_are_all_evaluated_and_kept(checking: Checking) -> None:
    claims = ["json.$.db.up == true", "json.$.lag < 10 else degraded"]
    result = await ran(
        checking, script='echo \'{"db": {"up": true}, "lag": 12}\'', format="json", assertions=claims
    )
    assert result["status"] == "degraded"
    assert [(one["held"], one["state"]) for one in result["assertions"]] == [
        (True, "healthy"),
        (False, "degraded"),
    ]


@requires("user namespaces")
async def test_a_command_is_run_with_its_arguments(checking: Checking) -> None:
    result = await ran(
        checking, kind="auto", script=None, command=["/usr/bin/printf", "%s|%s"], args=["a b", "*"]
    )
    assert state(result) == ("healthy", "a b|*")
    gone = await ran(checking, kind="auto", script=None, command=["/usr/bin/there-is-none"])
    assert gone["status"] == "unknown"
    assert "/usr/bin/there-is-none" in gone["message"]


@requires("user namespaces")
async def test_what_it_is_given_is_filled_in_on_the_core(checking: Checking) -> None:
    await checking.set_secret("db-password", SECRET)
    result = await ran(
        checking,
        script='read line; echo "$line $WHERE $1 ${#PGURL} $RINGFENCE_CHECK_NAME $RINGFENCE_TIMEOUT_SECONDS ${2}"',
        stdin="from {satellite.name}\n",
        env={"WHERE": "{check.system}"},
        args=["{{x}}", "{db-password}"],
        secrets={"PGURL": "postgres://app:{db-password}@db/app"},
    )
    length = len(f"postgres://app:{SECRET}@db/app")
    assert state(result) == ("healthy", f"from core web-1 {{x}} {length} tried 10 ***")


@requires("user namespaces")
@pytest.mark.parametrize(
    "fields", [{"args": ["{vars.nothing}"]}, {"assertions": ["latencyMs < {vars.nothing}"]}]
)
async def test_a_placeholder_that_is_not_known_is_unknown_and_nothing_runs(
    checking: Checking, fields: dict[str, Any]
) -> None:
    result = await ran(checking, script="echo ran", **fields)
    assert result["status"] == "unknown"
    assert "{vars.nothing} is not known" in result["message"]
    assert "stdout" not in result


async def test_what_it_is_read_as_is_told_and_follows_the_script(checking: Checking) -> None:
    check = await checking.create(
        kind="auto", script="#!/usr/bin/env python3\ndef main(context): ...", **RARELY
    )
    assert (check["format"], check["readAs"]) == (None, "verdict")
    changed = await checking.change(check, script="#!/bin/sh\necho fine")
    assert changed["readAs"] == "exit"
    listed = (await checking.api.get(CHECKS)).json()["checks"]
    assert [one["readAs"] for one in listed] == ["exit"]
    command = await checking.change(check, command=["/bin/true"], args=["-x"])
    assert "script" not in command
    assert (command["kind"], command["command"]) == ("auto", ["/bin/true"])


async def test_secrets_in_arguments_take_the_rule_for_them(instance: Instance) -> None:
    made = await instance.api.post(
        "/api/host/tokens", json={"name": "writer", "rules": ["health-checks.check.manage"]}
    )
    assert made.status_code == 201, made.text
    answer = await instance.api.post(
        CHECKS,
        json=definition(args=["{db-password}"], **RARELY),
        headers={"authorization": f"Bearer {made.json()['token']}"},
    )
    assert answer.status_code == 403, answer.text


@requires("user namespaces")
async def test_a_satellite_carries_a_task_out_as_the_core_does(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    await checking.set_secret("db-password", SECRET)
    satellite = await instance.register("web", tags=["web"])
    check = await checking.create(
        kind="bash",
        script='[[ $1 == web ]] || exit 2; echo "$RINGFENCE_SATELLITE_NAME $RINGFENCE_CHECK_NAME $TOKEN|n=3s;5"',
        args=["{satellite.name}"],
        secrets={"TOKEN": "<{db-password}>"},
        format="nagios",
        assertions=["n < 2 else degraded"],
        runsOn={"tags": ["web"]},
    )
    async with agent(instance.url, satellite, tmp_path):
        [newest, *_] = await checking.until(check, len)
        [asked] = await checking.run(check)
    for one in (newest, asked):
        assert state(one) == ("degraded", "n < 2 else degraded: 3 s; web disk ***")
        assert one["metrics"] == {"n": {"value": 3, "unit": "s", "warn": "5"}}
        assert one["format"] == "nagios"
    assert SECRET not in json.dumps([newest, asked])


@requires("user namespaces")
async def test_what_a_satellite_is_told_of_itself_follows_a_change(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await instance.register("web", tags=["web"])
    check = await checking.create(script='echo "${RINGFENCE_VARS_WARN-none}"', runsOn={"tags": ["web"]})
    async with agent(instance.url, satellite, tmp_path):
        await checking.until(check, lambda results: results and results[0]["message"] == "none")
        answer = await instance.api.patch(
            f"/api/satellite/satellites/{satellite.id}", json={"vars": {"WARN": "80"}}
        )
        assert answer.status_code == 200, answer.text
        await checking.until(check, lambda results: results[0]["message"] == "80")


@requires("user namespaces")
async def test_a_number_that_is_none_is_named_and_harms_nothing_else(checking: Checking) -> None:
    metrics = "{'lag': float('nan'), 'far': 1e999, 'n': 3, 'deep': {'a': 1}}"
    script = f"def main(context):\n    return {{'status': 'degraded', 'metrics': {metrics}}}"
    result = await ran(checking, kind="python", script=script)
    assert (result["status"], result["metrics"]) == ("degraded", {"n": 3.0})
    [note] = result["notes"]
    assert all(name in note for name in ("lag", "far", "deep"))


@requires("user namespaces")
async def test_results_are_found_by_the_name_of_a_place(instance: Instance, checking: Checking) -> None:
    satellite = await instance.register("edge1")
    check = await checking.create(**RARELY, runsOn={"core": True, "satellites": [satellite.id]})
    await checking.run(check, on="core")
    assert len(await checking.results(check, on="core")) == 1
    assert await checking.results(check, on="edge1") == []
    answer = await checking.api.get(f"{CHECKS}/{check['id']}/results", params={"on": "edge2"})
    assert answer.status_code == 422
    assert "edge2" in answer.text


@requires("user namespaces")
async def test_an_agent_of_the_first_release_is_asked_for_nothing_that_it_would_read_wrongly(
    instance: Instance, checking: Checking
) -> None:
    satellite = await instance.register("old", tags=["old"])
    plain = await checking.create(name="plain", runsOn={"tags": ["old"]}, **RARELY)
    others: tuple[dict[str, Any], ...] = (
        {"kind": "bash"},
        {"kind": "shell", "script": BASH},
        {"args": ["x"]},
        {"format": "nagios"},
        {"assertions": ["latencyMs < 500"]},
        {"kind": "python", "script": "def main(context): return False"},
        {"script": None, "kind": "auto", "command": ["/bin/true"]},
    )
    for number, fields in enumerate(others):
        await checking.create(name=f"new{number}", runsOn={"tags": ["old"]}, **RARELY, **fields)
    async with instance.peer(satellite) as peer:
        welcome = await peer.hear("authenticated")
        while len(told := welcome["assignments"]) < 8:
            welcome = await peer.hear("config_updated")
    first_release = {"shell", "python", "esm"}
    understood = [one["configId"] for one in told if one.get("kind") in first_release and "script" in one]
    assert understood == [plain["id"]]


@requires("user namespaces")
@pytest.mark.parametrize(
    ("script", "said", "expected"),
    [
        ("echo fine", {"stdout": "fine"}, "healthy"),
        ("echo fine", {"stdout": '{\n"status": "degraded"\n}'}, "degraded"),
        ("echo fine", {"stdout": "x" * 4095 + "}"}, "unknown"),
        ("def main(context): return False", {}, "unknown"),
    ],
)
async def test_what_an_older_agent_calls_healthy_is_read_anew(
    instance: Instance, checking: Checking, script: str, said: dict[str, Any], expected: str
) -> None:
    satellite = await instance.register("old", tags=["old"])
    kind = "python" if "def" in script else "shell"
    check = await checking.create(kind=kind, script=script, runsOn={"tags": ["old"]}, **RARELY)
    frame = CheckResult(
        config_id=check["id"],
        system_id="web-1",
        status="healthy",
        result={"message": "as it says", "metrics": {}, "exitCode": 0, **said},
        executed_at=dt.datetime.now(dt.UTC).isoformat(),
        result_id=str(uuid.uuid4()),
    )
    async with instance.connected(satellite) as peer:
        await peer.say(frame)
        [stored] = await checking.until(check, len)
    assert stored["status"] == expected


@requires("user namespaces")
async def test_a_script_finds_the_same_facts_in_its_context(checking: Checking) -> None:
    script = (
        "import os, time\n"
        "def main(context):\n"
        "    assert context['check'] == {'name': 'tried', 'system': 'web-1'}, context\n"
        "    assert context['satellite'] == {'name': 'core'}\n"
        "    assert context['timeoutSeconds'] == float(os.environ['RINGFENCE_TIMEOUT_SECONDS']) == 10\n"
        "    assert context['deadline'] == int(os.environ['RINGFENCE_DEADLINE']) <= time.time() + 10\n"
        "    return {'status': 'healthy', 'message': os.environ['RINGFENCE_CHECK_NAME']}\n"
    )
    assert state(await ran(checking, kind="python", script=script)) == ("healthy", "tried")


@requires("user namespaces")
async def test_a_result_tells_what_of_the_host_its_script_was_not_shown(checking: Checking) -> None:
    result = await ran(checking, script="df -P / >/dev/null && echo fine")
    [note] = result["notes"]
    assert "df needs disks in the policy's filesystem.hostView" in note
    mended = await ran(checking, script="echo fine\r\n")
    assert "line ends" in mended["notes"][0]


async def test_what_is_refused_is_told_in_words_of_our_own(checking: Checking) -> None:
    answer = await checking.api.post(CHECKS, json=definition(assertions=["lag <"]))
    assert answer.status_code == 422
    assert "an assertion cannot be read" in answer.text
    assert "Value error" not in answer.text
