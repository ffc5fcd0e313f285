"""Scripts and requests of steps in this instance's own sandbox: what they are given, and what they leave."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox.policy import Needs
from ringfence.scripts import RunResult, ScriptRequest, run
from ringfence.testing import PluginFactory, RunHost, StandIn, client
from ringfence_automations.service import StepResult
from ringfence_notifications.service import Notifications, Severity, UnknownChannelError
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncSession

from tests.automations.steps.conftest import Doing, doing_of
from tests.automations.steps.test_on_satellites import set_secret
from tests.certificates import private_tls
from tests.primitives import requires
from tests.satellite.test_agent_process import until_running

pytestmark = requires("user namespaces")

SECRET = "correct-horse-battery"


async def done(doing: Doing, kind: str, /, **fields: Any) -> StepResult:
    result = await doing.perform(kind, **fields)
    assert isinstance(result, StepResult)
    return result


HOSTILE = {
    "LD_PRELOAD": "/tmp/evil.so",
    "PATH": "/evil",
    "a": {"b": "one"},
    "a_b": "two",
    "BASH_ENV=x;touch": "/tmp/owned",
    "status": "$(touch /tmp/owned); `id` ' \" \n {text-0} {{ secrets.deploy }}",
    "long": "x" * 1_000_000,
    "hook": "another",
    "n": None,
    "list": [1, {"c": True}],
    "ünïcode": "é",
}


async def test_a_hostile_event_is_data_and_nothing_else(run_host: RunHost) -> None:
    host = await run_host()
    doing = doing_of(host)
    script = 'env -0 | tr "\\0\\n" "\\n " | sort; printf "%s|" "$1"; cat; ls /tmp'
    # The long text is in the event, and so more than a shell's variable can be.
    result = await done(
        doing,
        "run_shell",
        event=HOSTILE,
        script=script,
        args=["{{ event.status }}"],
        stdin="{{ event.status }}",
    )
    assert result.ok, result
    said = result.artifact["stdout"]
    told = dict(line.partition("=")[::2] for line in said.splitlines() if line.startswith("RINGFENCE_"))
    assert told["RINGFENCE_TRIGGER_LD_PRELOAD"] == "/tmp/evil.so"
    assert told["RINGFENCE_TRIGGER_HOOK"] == "health-state-changed"
    assert told["RINGFENCE_TRIGGER_LIST"] == '[1,{"c":true}]'
    assert told["RINGFENCE_TRIGGER__N_CODE"] == "é"
    assert told["RINGFENCE_INPUT_SIZE"] == "3"
    assert told["RINGFENCE_ARTIFACT_LOOK_EXITCODE"] == "0"
    assert told["RINGFENCE_LEFT_OUT"] == "RINGFENCE_TRIGGER_A_B RINGFENCE_TRIGGER_LONG"
    assert "RINGFENCE_TRIGGER_A_B" not in told
    assert "RINGFENCE_TRIGGER_LONG" not in told
    assert "\nLD_PRELOAD" not in said
    assert "\nBASH_ENV" not in said
    assert said.count(HOSTILE["status"]) == 2
    assert "owned" not in said.rpartition("}}")[2]
    python = await done(
        doing,
        "run_script",
        event=HOSTILE,
        kind="python",
        script="def main(context): return [len(context['trigger']['long']), context['artifacts']['look']['exitCode'],"
        " context['trigger']['hook'], context['event']['hook']]",
    )
    assert python.artifact["value"] == [1_000_000, 0, "health-state-changed", "another"]
    assert python.artifact["enforced"]["network"]


async def test_what_a_script_gives_back_is_told_cut_and_refusals_are_no_success(run_host: RunHost) -> None:
    host = await run_host()
    doing = doing_of(host)
    long = await done(
        doing, "run_shell", script="echo begin; head -c 300000 /dev/zero | tr '\\0' x; echo; echo end"
    )
    assert long.ok
    assert long.artifact["stdoutTruncated"]
    assert len(long.artifact["stdout"]) < 70_000
    assert long.artifact["stdout"].startswith("begin\n")
    assert long.artifact["stdout"].endswith("\nend\n")
    late = await done(doing, "run_shell", script="sleep 60", seconds=1.2)
    assert (late.ok, late.artifact["status"], late.message) == (False, "timeout", "stopped: timeout")
    none = await done(doing, "run_script", kind="auto", script="\x7fELF nothing")
    assert (none.ok, none.artifact["status"], none.artifact["exitCode"]) == (False, "refused", None)
    assert none.artifact["refused"]
    async with client(host) as admin:
        (await admin.put("/api/script-packages/sandbox-policy", json={"policy": {"onUnsupported": "fail"}}))
    value = await done(doing, "run_script", kind="python", script="def main(context): return 'x' * 200_000")
    assert value.artifact["value"] is None
    assert "larger than" in value.artifact["valueError"]


async def test_the_secrets_of_a_run_are_masked_in_what_every_later_step_tells(run_host: RunHost) -> None:
    host = await run_host()
    doing = doing_of(host)
    await set_secret(host, "deploy", SECRET)
    run = await doing.begin()
    script = 'echo "$T"; echo "${T#Bearer }" | base64 >&2; exit 3'
    result = await done(
        doing, "run_shell", run=run, script=script, secrets={"T": "Bearer {{ secrets.deploy }}"}
    )
    assert (result.artifact["stdout"], result.artifact["stderr"].strip()) == ("***\n", "***")
    assert "***" in result.message
    # Another instance, another step, which has no secrets of its own.
    doing.start_over()
    again = await done(doing, "run_shell", run=run, path="echo", script=f"echo {SECRET}; echo '\"{SECRET}\"'")
    assert again.artifact["stdout"] == '***\n"***"\n'
    # It is changed while the run is under way: what it was is masked too, where it was seen.
    await set_secret(host, "deploy", "another-value-altogether")
    both = await done(
        doing, "run_shell", run=run, path="both", script=f"echo {SECRET} another-value-altogether"
    )
    assert both.artifact["stdout"] == "*** ***\n"
    assert doing.written[0] == ("stdout", "***\n")
    assert SECRET not in str(doing.written)
    assert SECRET not in await doing.everything_stored()
    missing = await done(doing, "run_shell", script="x", secrets={"T": "{{ secrets.none }}"})
    assert missing.message == "secret none does not exist: set it with `ringfence secret set NAME`"
    doing.rules = frozenset()
    refused = await done(doing, "run_shell", script="x", secrets={"T": "{{ secrets.deploy }}"})
    assert "does not hold secrets.secret.use" in refused.message


async def test_a_script_can_be_followed_and_ends_when_its_step_is_not_wanted(run_host: RunHost) -> None:
    host = await run_host()
    doing = doing_of(host)
    mark = "31415926"
    performing = asyncio.create_task(
        done(doing, "run_shell", script=f"echo started; exec sleep {mark}", seconds=60)
    )
    await until_running(mark, wanted=True)
    async with asyncio.timeout(20):
        while not doing.written:
            await asyncio.sleep(0.02)
    assert doing.written == [("stdout", "started\n")]
    performing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await performing
    await until_running(mark, wanted=False)


@asynccontextmanager
async def web_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that tells what it was asked, and answers with JSON."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (int(line[16:]) for line in head.splitlines() if line.startswith("Content-Length: ")), 0
        )
        heard.append(head + (await reader.readexactly(length)).decode())
        status = "404 Not Found" if "/missing" in head else "200 OK"
        writer.write(f'HTTP/1.1 {status}\r\nX-A: b\r\nConnection: close\r\n\r\n{{"fine": true}}'.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


async def test_a_request_goes_only_where_the_policy_and_its_url_allow(run_host: RunHost) -> None:
    host = await run_host()
    doing = doing_of(host)
    await set_secret(host, "deploy", SECRET)
    async with web_server() as (port, heard), client(host) as admin:
        url = f"http://127.0.0.1:{port}/a/{{{{ event.name }}}}"
        refused = await done(doing, "http", url=url, event={"name": "x"})
        assert not refused.ok
        assert heard == []
        await admin.put(
            "/api/script-packages/sandbox-policy",
            json={"policy": {"network": {"mode": "allowlist", "allow": [f"localhost:{port}"]}}},
        )
        answer = await done(
            doing,
            "http",
            url=f"http://localhost:{port}/a/{{{{ event.name }}}}",
            event={"name": "x%20y"},
            headers={"Authorization": "Bearer {{ secrets.deploy }}", "X-Name": "{{ event.name }}"},
            json={"name": "{{ event.name }}"},
        )
        assert answer.ok, answer
        assert (answer.artifact["status"], answer.artifact["json"]) == (200, {"fine": True})
        assert answer.artifact["headers"]["x-a"] == "b"
        [asked] = heard
        assert asked.startswith("POST /a/x%20y HTTP/1.1\r\n")
        assert f"Authorization: Bearer {SECRET}\r\n" in asked
        assert asked.endswith('{"name": "x%20y"}')
        for secret in ("rfh_ours", "rfh_theirs"):
            url = f"http://localhost:{port}/api/automations/hooks/{secret}"
            assert (await done(doing, "http", url=url, headers={"ringfence-cause": "x"})).ok
        ours, theirs = heard[-2:]
        assert "ringfence-cause: x" in theirs
        assert "ringfence-cause: x" not in ours
        assert re.search(r"Ringfence-Cause: [0-9a-f-]{36}\r\n", ours)
        missing = await done(doing, "http", url=f"http://localhost:{port}/missing")
        assert (missing.ok, missing.message) == (False, "answered 404, and 2xx was expected")
        split = await done(
            doing,
            "http",
            url=f"http://localhost:{port}/",
            headers={"A": "{{ event.name }}"},
            event={"name": "x\r\nB: c"},
        )
        assert split.message == "a header holds a line break"
        elsewhere = await done(
            doing, "http", url="{{ event.name }}", event={"name": f"file://localhost:{port}/x"}
        )
        assert "must begin with http" in elsewhere.message


async def test_a_request_trusts_the_authorities_that_it_names(run_host: RunHost, tmp_path: Path) -> None:
    host = await run_host()
    doing = doing_of(host)
    tls = private_tls(tmp_path, "localhost")
    async with web_server(tls.server) as (port, _), client(host) as admin:
        await admin.put(
            "/api/script-packages/sandbox-policy",
            json={"policy": {"network": {"mode": "allowlist", "allow": [f"localhost:{port}"]}}},
        )
        url = f"https://localhost:{port}/"
        unknown = await done(doing, "http", url=url)
        assert (unknown.ok, unknown.artifact["status"]) == (False, None)
        assert "CERTIFICATE_VERIFY_FAILED" in unknown.message
        known = await done(doing, "http", url=url, tls={"ca": tls.ca_file.read_text()})
        assert known.artifact["status"] == 200
        assert (await done(doing, "http", url=url, tls={"verify": False})).ok


async def test_a_request_has_of_the_network_what_its_url_names_and_no_more(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    doing = doing_of(await run_host())
    asked: list[ScriptRequest] = []

    async def noted(request: ScriptRequest) -> RunResult:
        asked.append(request)
        return await run(request)

    monkeypatch.setattr("ringfence_automations.steps.http_steps.run", noted)
    await done(doing, "http", url="https://[2001:db8::1]/x")
    await done(doing, "http", url="http://a.example:81/x")
    assert [request.needs for request in asked] == [
        Needs(network=(entry,)) for entry in ("[2001:db8::1]:443", "a.example:81")
    ]


class Told:
    """Takes the place of the plugin notifications."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def notify(self, session: AsyncSession, *, channel: str, **message: Any) -> None:
        if channel == "nobody":
            raise UnknownChannelError(channel)
        self.messages.append(message)

    async def channels(self) -> list[str]:
        return []


async def test_people_are_told_and_no_secret(run_host: RunHost, plugins_under_test: PluginFactory) -> None:
    told = Told()
    host = await run_host(
        plugins=[*plugins_under_test(), StandIn("notifications", services={Notifications: told})]
    )
    doing = doing_of(host)
    await set_secret(host, "deploy", SECRET)
    run = await doing.begin()
    await done(doing, "run_shell", run=run, script="true", secrets={"T": "{{ secrets.deploy }}"})
    event = {"status": f"down: {SECRET}"}
    body = {"channel": "ops", "text": "web is {{ event.status }}", "severity": "error"}
    assert (await done(doing, "notify", run=run, event=event, **body)).ok
    [message] = told.messages
    assert (message["title"], message["text"]) == ("restart-web", "web is down: ***")
    assert message["severity"] is Severity.ERROR
    unknown = await done(doing, "notify", event=event, **{**body, "channel": "nobody"})
    assert "there is no channel nobody" in unknown.message


async def test_masking_asks_once_for_a_runs_secrets_when_its_script_has_ended(run_host: RunHost) -> None:
    host = await run_host()
    doing = doing_of(host)
    await set_secret(host, "deploy", SECRET)
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *others: object) -> None:
        if "SELECT name FROM automations_run_secrets" in statement:
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        told = await done(
            doing, "run_shell", script='echo "$TOKEN"', secrets={"TOKEN": "{{ secrets.deploy }}"}
        )
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert SECRET not in str(told.artifact)
    assert len(asked) == 1
