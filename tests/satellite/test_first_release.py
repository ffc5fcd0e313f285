"""Today's core with a satellite of the first release, and today's agent with a core of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ringfence.sandbox import DEFAULT_POLICY

from tests.primitives import requires
from tests.satellite.first_release import old_core, old_satellite
from tests.satellite.instances import Instance, Registered
from tests.satellite.test_agent_process import agent
from tests.waiting import until

DENY = {"network": {"mode": "deny"}}


async def test_a_satellite_of_the_first_release_is_let_in_told_the_policy_and_asked_for_runs(
    instance: Instance,
) -> None:
    satellite = await instance.register()
    async with old_satellite(instance.url, satellite.id, satellite.token) as old:
        shown = await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
        assert shown["enforced"]["network"]
        assert shown["version"] == "0.1.0"
        assert shown["capabilities"] == {"platform": "linux"}
        beat = shown["lastHeartbeatAt"]
        revision = await instance.set_policy(DENY)
        shown = await instance.until(satellite, lambda one: one["appliedRevision"] == revision)
        assert not shown["appliedUnknown"]
        # Assignments, which it knows nothing of, are passed over.
        await instance.plugin.reassign(lambda _: True)
        assert (await instance.run(satellite, script="true"))["result"]["stdout"] == "old\n"
        assert (old.applied, old.ran) == ([0, revision], ["true"])
        await old.socket.send('{"type":"heartbeat","uptimeSeconds":2.5}')
        await instance.until(satellite, lambda one: one["lastHeartbeatAt"] > beat)


RUN_WRONGLY: list[dict[str, Any]] = [
    {"kind": "bash"},
    {"kind": "auto", "script": "#!/bin/sh -e\ntrue"},
    {"kind": "auto", "script": "set -e\r\nfalse\r\n", "name": "a.sh"},
    {"kind": "auto", "script": "nobody knows what runs this"},
    {"args": ["-w"]},
    {"env": {"A": "b"}},
    {"stdin": ""},
    {"kind": "program", "script": None, "command": ["/usr/bin/df"]},
]


async def test_what_a_satellite_of_the_first_release_would_run_wrongly_is_not_given_to_it(
    instance: Instance,
) -> None:
    for number, fields in enumerate(RUN_WRONGLY):
        satellite = await instance.register(f"old-{number}")
        async with old_satellite(instance.url, satellite.id, satellite.token) as old:
            await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
            refused = await instance.run(satellite, **{"kind": "shell", "script": "wrong", **fields})
            assert refused["outcome"] == "refused"
            assert "of an older release" in refused["reason"]
            assert "upgrade the agent" in refused["reason"]
            # Nor does that end its connection: what it can run, it goes on running, however that is asked for.
            known = {"kind": "auto", "name": "a.py", "script": "true"}
            assert (await instance.run(satellite, **known))["result"]["stdout"] == "old\n"
            assert old.ran == ["true"]


@requires("user namespaces")
async def test_an_agent_of_today_obeys_a_core_of_the_first_release(
    instance: Instance, tmp_path: Path
) -> None:
    policy: dict[str, Any] = DEFAULT_POLICY.to_wire()
    assignment = {
        "configId": "disk",
        "systemId": "web",
        "kind": "shell",
        "script": "echo fine",
        "intervalSeconds": 0.2,
        "timeoutMs": 5000,
    }
    async with old_core(policy) as core:
        core.assignments = [assignment]
        registered = Registered("7b3f7a3e-8d6c-4c1e-9a51-0b1f8f2f6a10", "a-token")
        async with agent(instance, registered, tmp_path, urls=(core.url,)):
            await core.hear("authenticate", clientId=registered.id, token="a-token")
            await core.hear("sandbox_policy_applied", revision=0)
            await core.hear("heartbeat")
            limited = {**policy, "resources": {**policy["resources"], "cpuSeconds": 7}}
            await core.say({"type": "sandbox_policy", "policy": limited, "revision": 1})
            await core.hear("sandbox_policy_applied", revision=1)
            await core.say({"type": "run_script", "runId": "r1", "kind": "shell", "script": "ulimit -t"})
            answer = await core.hear("run_result", runId="r1")
            assert (answer["exitCode"], answer["stdout"]) == (0, "7\n")
            assert answer["sandbox"]["origin"]["revision"] == 1
            # Nobody acknowledges results here: what was sent is not kept, and not sent again.
            result = await core.hear("result", configId="disk")
            assert result["status"] == "healthy"
            assert result["systemId"] == "web"
            await core.say({"type": "config_updated", "assignments": []})
            await until(lambda: not list(tmp_path.glob("results-*/*.json")))
