"""`ringfence automation run|runs|logs|cancel|try|triggers|webhook` on a real host, with one for all cases."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from ringfence.cli import INTERRUPTED, CliError
from ringfence.cli.app import app
from ringfence.testing import RunHost, client, eventually, installed, served
from ringfence_automations.commands.following import follow
from ringfence_automations.commands.trying import _steps
from typer.testing import CliRunner, Result

GREET = """
name: greet
mode: parallel
inputs:
  who: {required: true}
  times: {type: integer, default: 1}
triggers:
  - hook: secret-changed
    filter: event.name == "bell"
  - cron: 0 3 * * *
  - webhook: true
conditions: [trigger.kind != "timetable" || event.missed < 5]
steps:
  - id: pause
    wait: {for: 1s}
    when: inputs.times > 1
  - id: pick
    choose:
      - when: inputs.who == "nobody"
        steps: [{stop: {status: failed, message: "nobody is there"}}]
      - otherwise: [{id: say, stop: {message: "hello {{ inputs.who }}"}}]
"""
HEARS = """
name: hears
triggers: [{hook: secret-changed, filter: event.name == "gong"}]
steps: [{stop: {message: "heard {{ event.name }}"}}]
"""
SLOW = """
name: slow
steps: [{id: pause, wait: {for: 1h}}]
"""
SCRIPTS = """
name: scripts
triggers: [{hook: secret-changed}]
steps:
  - id: look
    run_shell:
      script: echo "$1"
      args: ["{{ event.name }}"]
      secrets: {TOKEN: "Bearer {{ secrets.bell }}"}
      on: {selector: "role=web"}
  - id: each
    repeat: {over: '["a", "b"]', as: word, steps: [{id: tell, run_shell: {script: echo, args: ["{{ word }}"]}}]}
  - id: after
    when: artifacts.look.exitCode == 0
    run_shell: {script: echo, args: ["{{ artifacts.look.stdout }}"]}
"""


@pytest.mark.slow
async def test_runs_are_started_followed_listed_and_ended(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = await run_host(plugins=installed("automations"))

    async def command(*words: str, stdin: str | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, ["automation", *words], input=stdin)

    async def said(*words: str, stdin: str | None = None) -> str:
        result = await command(*words, stdin=stdin)
        assert result.exit_code == 0, result.output + str(result.exception)
        return result.stdout

    async def told(*words: str, stdin: str | None = None) -> Any:
        return json.loads(await said(*words, "--json", stdin=stdin))

    async with served(host) as url, client(host) as http:
        monkeypatch.setenv("RINGFENCE_URL", url)
        monkeypatch.setenv("RINGFENCE_TOKEN", host.data_dir.admin_token_path.read_text().strip())
        await http.put("/api/secrets/secrets/bell", json={"value": "ding-dong-ding"})
        await said("apply", "-f", "-", stdin=f"{GREET}---{SLOW}---{SCRIPTS}")

        assert "started: run" in await said("run", "greet", "--input", "who=you")
        followed = await said("run", "greet", "--input", "who=you", "--input", "times=2", "--follow")
        assert "pause: succeeded" in followed
        assert "The run has succeeded: hello you." in followed
        failed = await command("run", "greet", "--input", "who=nobody", "--wait")
        assert failed.exit_code == 1
        assert "the run has failed: nobody is there" in str(failed.exception)
        once = [await told("run", "greet", "--input", "who=you", "--once", "k") for _ in range(2)]
        assert once[0]["id"] == once[1]["id"]
        for wrong, why in (
            (("greet",), "input who is required"),
            (("greet", "--input", "whom=you"), "no input whom"),
            (("greet", "--input", "times=x"), "input times must be of type integer"),
            (("greet", "--input", "who"), "must be NAME=VALUE"),
            (("grt",), "there is no automation grt"),
        ):
            assert why in str((await command("run", *wrong)).exception)

        slow = (await told("run", "slow"))["id"]
        assert [one["id"] for one in (await told("runs", "slow"))["runs"]] == [slow]
        assert "running" in await said("runs", "--status", "running")
        assert "The run is running." in await said("logs", "slow")
        assert "The run was cancelled." in await said("cancel", slow)
        assert "had already ended (cancelled)" in await said("cancel", slow)
        whole = await told("logs", slow)
        assert (whole["run"]["status"], whole["steps"][0]["path"]) == ("cancelled", "pause")
        assert whole["output"] == []
        assert (await command("logs", "slow", "--follow")).exit_code == 1
        assert "is no id of a run" in str((await command("cancel", "slow")).exception)

        # `logs` shows the run that goes on, and not the one that it kept from starting.
        slow = (await told("run", "slow"))["id"]
        assert "another run is under way" in str((await command("run", "slow")).exception)
        assert (await told("logs", "slow"))["run"]["id"] == slow
        assert "is disabled" in await said("disable", "slow", "--cancel-runs")
        ended = (await told("logs", slow))["run"]
        assert ended["cancelledBy"] is not None

        # What would be done is shown, and nothing is done.
        before = len((await told("runs"))["runs"])
        # The event that is made up has what the filter asks for.
        assert "trigger 1 matches." in await said("try", "greet", "--input", "who=you")
        other = await said(
            "try", "greet", "--payload", "-", "--input", "who=you", stdin='{"name": "x", "change": "set"}'
        )
        assert "No trigger of the automation matches" in other
        bell = tmp_path / "event.json"
        bell.write_text('{"name": "bell", "change": "set"}')
        shown = await said("try", "greet", "--payload", str(bell), "--input", "who=you")
        assert "trigger 1 matches." in shown
        assert "when inputs.times > 1: false" in shown
        assert "message: hello {{ inputs.who }}: hello you" in shown
        assert "pick.otherwise.say: stop" in shown, "a path is as the run's logs have it"
        assert "Nothing was done." in shown
        timetable = await told("try", "greet", "--trigger", "2", "--input", "who=you")
        assert (timetable["starts"], timetable["conditions"][0]["value"]) == (True, True)
        assert len((await told("runs"))["runs"]) == before

        events = (await http.get("/api/host/events", params={"limit": 500})).json()["events"]
        [position] = [one["position"] for one in events if one["hook"] == "secret-changed"]
        scripts = await told("try", "scripts", "--event", str(position))
        look, each, after = scripts["steps"]
        assert (look["on"], look["does"]["args"]) == ([], ["bell"])
        assert "ding" not in json.dumps(scripts)
        assert [one[0]["does"]["args"] for one in each["rounds"]] == [["a"], ["b"]]
        assert (after["when"]["later"], after["on"]) == ("artifacts.look", ["this host"])
        assert after["later"] == ["artifacts.look"]
        assert any("no satellite" in line for line in _steps(scripts["steps"], ""))
        assert "no event 999999" in str((await command("try", "scripts", "--event", "999999")).exception)

        real = await told("try", "greet", "--payload", str(bell), "--input", "who=me", "--for-real")
        ended = await told("logs", real["run"])
        assert ended["run"]["trigger"]["hook"] == "secret-changed"

        # An event starts it, and it goes its way.
        await said("apply", "-f", "-", stdin=HEARS)
        await http.put("/api/secrets/secrets/gong", json={"value": "ding-dong-ding"})

        async def heard() -> bool:
            return [one["message"] for one in (await told("runs", "hears"))["runs"]] == ["heard gong"]

        assert await eventually(heard)

        hooks = await said("triggers", "secret-changed")
        assert "secret-changed (secrets)" in hooks
        assert "event.name: " in hooks
        assert "there is no hook nothing" in str((await command("triggers", "nothing")).exception)

        made = await told("webhook", "greet")
        assert made["url"].startswith(f"{url}/api/automations/hooks/rfh_")
        async with httpx.AsyncClient() as sender:
            answer = await sender.post(made["url"])
        assert answer.status_code == 202
        late = await http.get(f"/api/automations/runs/{answer.json()['run']}", params={"wait": "20"})
        assert late.json()["message"] == "input who is required, and only who starts it by hand can give one"
        assert "used" in await said("webhook", "greet", "--show")
        assert "is removed" in await said("webhook", "greet", "--remove", "--yes")


def test_a_command_that_is_interrupted_leaves_the_run_and_says_how_to_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupted:
        def request(self, *_: object, **__: object) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(CliError) as caught:
        follow(Interrupted(), "an-id")  # type: ignore[arg-type]
    assert caught.value.exit_code == INTERRUPTED
    assert "ringfence automation cancel an-id" in str(caught.value.hint)
