import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from policy_diary.commands import app
from policy_diary.plugin import DiaryPlugin, entry_written
from policy_diary.steps import Entry
from ringfence import Mode
from ringfence.testing import (
    PluginFactory,
    Record,
    RunHost,
    Subscription,
    client,
    eventually,
    installed,
    served,
    signed_in,
)
from ringfence_automations.service import StepKind, StepResult
from ringfence_automations.testing import perform
from ringfence_notifications.service import RouteSource, Severity
from ringfence_notifications.testing import Told, told
from ringfence_script_packages.hooks import PolicyChange, SandboxPolicyChanged, sandbox_policy_changed
from typer.testing import CliRunner

ENTRIES = "/api/policy-diary/entries"


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [*installed("script-packages"), DiaryPlugin()]


async def test_a_change_of_the_policy_is_entered(run_host: RunHost) -> None:
    host = await run_host()
    async with client(host, name="ann", rules=["script-packages.script-sandbox.manage"]) as ann:
        body = {"policy": {"network": {"mode": "deny"}}}
        await ann.put("/api/script-packages/sandbox-policy", json=body, headers={"If-Match": "*"})
    async with client(host) as admin:

        async def entries() -> list[dict[str, str]]:
            return list((await admin.get(ENTRIES)).json())

        assert await eventually(entries) == [{"author": "ann", "text": "revision 1: network.mode"}]


async def test_people_write_entries_of_their_own_if_they_may(run_host: RunHost) -> None:
    host = await run_host()
    async with client(host, rules=()) as stranger:
        assert (await stranger.post(ENTRIES, params={"note": "hello"})).status_code == 403
    async with client(host, name="ann", rules=["policy-diary.entry.write"]) as ann:
        assert (await ann.post(ENTRIES, params={"note": "hello"})).status_code == 201
        assert (await ann.get(ENTRIES)).json() == [{"author": "ann", "text": "hello"}]


async def test_the_entries_are_counted_for_prometheus(run_host: RunHost) -> None:
    host = await run_host()
    async with client(host) as admin:
        await admin.post(ENTRIES, params={"note": "hello"})
        told = (await admin.get("/metrics")).text.splitlines()
    assert "ringfence_policy_diary_entries_total 1.0" in told


async def test_how_long_an_entry_may_be_is_a_setting(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGFENCE_POLICY_DIARY_MAX_LETTERS", "5")
    async with client(await run_host()) as admin:
        assert (await admin.post(ENTRIES, params={"note": "hello"})).status_code == 201
        assert (await admin.post(ENTRIES, params={"note": "hello!"})).status_code == 422


async def test_the_command_writes_and_lists(run_host: RunHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host, run = await run_host(), CliRunner().invoke
    async with served(host) as url:
        monkeypatch.setenv("RINGFENCE_URL", url)
        monkeypatch.setenv("RINGFENCE_TOKEN", host.data_dir.admin_token_path.read_text().strip())
        wrote = await asyncio.to_thread(run, app, ["write", "hello"])
        listed = await asyncio.to_thread(run, app, ["list", "--json"])
    assert (wrote.exit_code, wrote.stdout.split(" wrote: ")[1]) == (0, "hello\n")
    assert [entry["text"] for entry in json.loads(listed.stdout)["entries"]] == ["hello"]


async def test_alone_it_listens_once_for_the_whole_fleet_and_says_what_it_wrote(record: Record) -> None:
    recorder = await record(DiaryPlugin())
    assert recorder.subscriptions == (Subscription("sandbox-policy-changed", Mode.WORK_QUEUE, "diary"),)
    change = PolicyChange(path="enabled", before=True, after=False)
    fact = SandboxPolicyChanged(
        revision=2,
        previous_revision=1,
        policy={},
        changes=(change,),
        actor="bob",
        reason=None,
        changed_at=datetime.now(UTC),
    )
    await recorder.deliver(sandbox_policy_changed, fact)
    [event] = recorder.emitted(entry_written)
    assert (event.actor, event.payload.text) == ("bob", "revision 2: enabled")
    [statement] = recorder.statements
    assert statement.parameters == {"author": "bob", "text": "revision 2: enabled"}


async def test_an_automation_writes_an_entry_of_what_has_happened(record: Record) -> None:
    plugin = DiaryPlugin()
    recorder = await record(plugin, extensions={StepKind: []})
    kind: StepKind[Any] = recorder.extensions(StepKind)[0]
    async with plugin.context.sessions.begin() as session:
        values = {"event": {"status": "down"}}
        ended = await perform(kind, {"text": "web is {{ event.status }}"}, session=session, values=values)
    assert ended == StepResult(ok=True, artifact={"letters": 11}, message="written")
    [event] = recorder.emitted(entry_written)
    assert (event.payload.author, event.payload.text) == ("test", "web is down")


async def test_people_are_told_of_an_entry(record: Record) -> None:
    recorder = await record(DiaryPlugin(), extensions={RouteSource: []})
    [route] = await recorder.extensions(RouteSource)[0].routes()
    found = told(route, entry_written, Entry(author="ann", text="hello"))
    assert found == Told("ann wrote into the policy's diary", "hello", Severity.INFO, key=())


async def test_the_page_shows_the_entries_to_whoever_may_see_them(run_host: RunHost) -> None:
    host = await run_host()
    async with client(host, name="ann", rules=["policy-diary.entry.write"]) as ann:
        await ann.post(ENTRIES, params={"note": "<hello>"})
        async with signed_in(host, ann) as browser:
            page = (await browser.get("/diary")).text
    assert "<bdi>&lt;hello&gt;</bdi>" in page
    async with client(host, rules=["host.plugin.read"]) as stranger, signed_in(host, stranger) as browser:
        assert (await browser.get("/diary")).status_code == 403
