"""Scripts of steps on satellites: asked for once, on each of a selection, and ended by what the satellites tell."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from ringfence.scripts import ScriptKind
from ringfence.testing import Host, RunHost, client, eventually
from ringfence_automations.runs.tables import kept_output
from ringfence_automations.service import Elsewhere, StepResult
from ringfence_satellite.protocol import CancelRun, RequestRunSecrets, RunFinished, RunScript, RunSecrets
from ringfence_satellite.testing import FakeSatellite, connect_satellite, fake_satellite

from tests.automations.steps.conftest import doing_of

SATELLITES = "/api/satellite/satellites"
SECRET = "correct-horse-battery"


async def set_secret(host: Host, name: str, value: str) -> None:
    async with client(host) as admin:
        (await admin.put(f"/api/secrets/secrets/{name}", json={"value": value})).raise_for_status()


async def secrets_for(fake: FakeSatellite, asked: RunScript) -> RunSecrets:
    await fake.say(RequestRunSecrets(request_id="r", config_id=str(asked.config_id)))
    return await fake.hear(RunSecrets)


async def test_a_step_on_a_satellite_is_asked_for_once_and_ends_with_its_result(run_host: RunHost) -> None:
    host = await run_host()
    doing = doing_of(host)
    event = {"status": "down; rm -rf /", "LD_PRELOAD": "/evil.so", "name": "{text-0} {{ secrets.deploy }}"}
    body: dict[str, Any] = {
        "script": "echo $1",
        "args": ["{{ event.name }}", "{braces}"],
        "on": "gateway",
        "needs": {"network": ["a.example:443"]},
    }
    async with fake_satellite(host, name="gateway") as fake:
        run = await doing.begin()
        first = await doing.perform("run_shell", run=run, event=event, **body)
        assert first == Elsewhere("gateway")
        assert isinstance(await doing.perform("run_shell", run=run, event=event, **body), Elsewhere)
        asked = await fake.answer_run(exit_code=3, stdout="down\n", stderr="no\n")
        end = await doing.end(run)
        assert (end.ok, end.message) == (False, "exit status 3: no")
        told = {key: end.artifact[key] for key in ("exitCode", "stdout", "status", "satellite")}
        assert told == {"exitCode": 3, "stdout": "down\n", "status": "failed", "satellite": "gateway"}
        # What an event says is never a placeholder, and never a variable but in our words.
        task = asked.task or {}
        assert asked.kind is ScriptKind.SHELL
        assert task["args"] == ["{{text-0}} {{ secrets.deploy }}", "{{braces}}"]
        assert asked.config_id is None
        assert all(name.startswith("RINGFENCE_") for name in asked.variables or {})
        assert (asked.variables or {})["RINGFENCE_TRIGGER_STATUS"] == event["status"]
        assert (asked.context or {})["trigger"]["LD_PRELOAD"] == "/evil.so"


async def test_a_satellite_asks_for_the_secrets_of_a_step_and_they_are_stored_nowhere(
    run_host: RunHost,
) -> None:
    host = await run_host()
    doing = doing_of(host)
    await set_secret(host, "deploy", SECRET)
    body: dict[str, Any] = {
        "script": "x",
        "on": "fake",
        "secrets": {"TOKEN": "Bearer {{ secrets.deploy }} {{ event.who }}"},
    }
    async with fake_satellite(host) as fake:
        run = await doing.begin()
        await doing.perform("run_shell", run=run, event={"who": "{{ secrets.other }}"}, **body)
        asked = await fake.hear(RunScript)
        assert SECRET not in asked.encode()
        doing.rules = frozenset({"satellite.script.run"})
        refused = await secrets_for(fake, asked)
        assert refused.env is None
        assert "secrets.secret.use" in str(refused.error)
        doing.rules |= {"secrets.secret.use"}
        given = (await secrets_for(fake, asked)).env or {}
        [text] = [value for name, value in given.items() if name.startswith("text")]
        assert text == f"Bearer {SECRET} {{{{ secrets.other }}}}"
        assert SECRET in given.values()
        # As on another instance, which has given nothing: the names are known, and the values are fetched anew.
        doing.start_over()
        answer = {"exitCode": 0, "stdout": f"it was {SECRET}", "value": {"a": [SECRET]}, "sandbox": _REPORT}
        await fake.say(RunFinished.of(asked.run_id, answer))
        end = await doing.end(run)
        assert (end.artifact["stdout"], end.artifact["value"]) == ("it was ***", {"a": ["***"]})
        assert (await secrets_for(fake, asked)).env is None
        # A later step, which has no secrets, is not followed while it runs; and its failure tells none.
        await doing.perform("run_shell", run=run, path="later", script="x", on="fake")
        later = await fake.hear(RunScript)
        assert (later.quiet, asked.quiet) == (True, None)
        await fake.say(RunFinished(run_id=later.run_id, error=f"it was {SECRET}"))
        assert (await doing.end(run, "later")).message == "it was ***"
    stored = await doing.everything_stored()
    # This satellite does not mask what it sends, as agents do.
    assert SECRET not in stored


_REPORT = {"requested": {}, "origin": {"source": "stored"}}


async def test_each_of_a_selection_so_many_at_once_and_so_many_may_fail(run_host: RunHost) -> None:
    host = await run_host()
    doing = doing_of(host)
    on = {"selector": "role=web", "atOnce": 2, "mayFail": 1}
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(fake_satellite(host, name="a"))
        async with client(host) as admin:
            others = []
            for name in ("b", "c"):
                made = await admin.post(
                    SATELLITES, json={"name": name, "region": "test", "labels": {"role": "web"}}
                )
                others.append(made.json())
            await admin.patch(f"{SATELLITES}/{first.id}", json={"labels": {"role": "web"}})
        url = f"http://{first._socket.remote_address[0]}:{first._socket.remote_address[1]}"
        second = await stack.enter_async_context(
            connect_satellite(url, id=others[0]["satellite"]["id"], token=others[0]["token"])
        )
        run = await doing.begin()
        assert await doing.perform("run_shell", run=run, script="x", on=on) == Elsewhere("a, b, c")
        await first.answer_run(stdout="fine")
        await second.hear(RunScript)
        async with client(host) as admin:
            # Its runs go with it, and nobody else tells of that.
            await admin.delete(f"{SATELLITES}/{second.id}")

        async def c_is_asked() -> bool:
            async with client(host) as admin:
                runs = (await admin.get("/api/satellite/runs")).json()["runs"]
            return any(one["satellite"] == "c" for one in runs)

        await eventually(c_is_asked)
        third = await stack.enter_async_context(
            connect_satellite(url, id=others[1]["satellite"]["id"], token=others[1]["token"])
        )
        await third.answer_run(stdout="fine")
        end = await doing.end(run)
    assert end.ok, end
    counts = {key: end.artifact[key] for key in ("succeeded", "failed", "unreachable", "leftOut")}
    assert counts == {"succeeded": 2, "failed": 0, "unreachable": 1, "leftOut": 0}
    assert end.artifact["satellites"]["a"]["stdout"] == "fine"
    async with doing.context.sessions() as session:
        kept = await kept_output.read(session, run, after=0, limit=10)
    assert [one.text for one in kept] == ["a | fine\n", "c | fine\n"]


async def test_what_cannot_begin_fails_in_words_and_a_cancelled_step_ends_where_it_runs(
    run_host: RunHost,
) -> None:
    host = await run_host()
    doing = doing_of(host)

    async def failed(**body: Any) -> str:
        result = await doing.perform("run_shell", script="x", **body)
        assert isinstance(result, StepResult)
        assert not result.ok
        return result.message

    assert "no satellite is selected by role=none" in await failed(on={"selector": "role=none"})
    empty = await doing.perform("run_shell", script="x", on={"selector": "role=none", "mayBeNone": True})
    assert isinstance(empty, StepResult)
    assert empty.ok
    assert "no satellite 'nobody'" in await failed(on="nobody")
    assert "there is no kind of steps" in (await doing.perform("dance")).message  # type: ignore[union-attr]
    async with fake_satellite(host) as fake:
        doing.rules = frozenset()
        assert "does not hold satellite.script.run on fake" in await failed(on="fake")
        doing.rules = frozenset({"satellite.script.run"})
        run = await doing.begin()
        await doing.perform("run_shell", run=run, script="x", on="fake")
        asked = await fake.hear(RunScript)
        for _ in range(2):
            await doing.cancel(run, "run_shell", script="x", on="fake")
        assert (await fake.hear(CancelRun)).run_id == asked.run_id
        await fake.say(RunFinished(run_id=asked.run_id, error="ended", cause="cancelled"))
        end = await doing.end(run)
        assert (end.ok, end.artifact["status"], end.artifact["exitCode"]) == (False, "cancelled", None)
