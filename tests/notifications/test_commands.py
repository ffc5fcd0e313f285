"""`ringfence notify` against a real host: every command, with what people and machines are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from ringfence.testing import eventually, served
from ringfence_notifications.commands.notify import app
from typer.testing import CliRunner

from tests.notifications.conftest import Telling
from tests.notifications.receivers import Inbox

Run = Callable[..., Awaitable[Any]]


@pytest.fixture
async def run(telling: Telling, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    async with served(telling.host) as url:
        monkeypatch.setenv("RINGFENCE_URL", url)
        monkeypatch.setenv("RINGFENCE_TOKEN", telling.host.data_dir.admin_token_path.read_text().strip())

        async def run(*arguments: str, stdin: str | None = None) -> Any:
            return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), input=stdin)

        yield run


async def said(run: Run, *arguments: str, stdin: str | None = None) -> str:
    result = await run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


async def document(run: Run, *arguments: str) -> Any:
    return json.loads(await said(run, *arguments, "--json"))


async def test_a_person_adds_a_channel_is_told_acknowledges_and_removes_it(
    telling: Telling, run: Run, web: Inbox
) -> None:
    assert "No channels yet" in await said(run, "list")
    added = await said(
        run, "add", "ops", "--per-hour", "20", "--quiet", "02:00-02:01", stdin=f"{web.address}\n"
    )
    assert added.startswith("ops is added. It is told of: ")
    assert "open doors" in added
    assert "t0ken" not in added
    again = await said(run, "add", "ops", "--per-hour", "25", stdin=f"{web.address}\n")
    assert again.startswith("ops has a new address, and its other settings as before.")
    listed = await said(run, "list")
    assert "json://…" in listed
    assert "02:00-02:01 UTC, but critical" in listed
    assert "ops has taken the message" in await said(run, "test", "ops")
    web.answers = False
    failed = await run("test", "ops")
    assert failed.exit_code == 1
    assert "ops did not take the message: it has a fault of its own, or is overloaded" in str(
        failed.exception
    )
    web.answers = True
    await telling.open("gate")
    await web.wait_for(2)
    [incident] = (await document(run, "incidents"))["incidents"]
    assert "nobody is reminded of it" in await said(run, "ack", str(incident["id"]))
    assert "seen by" in await said(run, "incidents")
    await telling.all_sent()
    assert "The gate of home is open" in await said(run, "log")
    await telling.open("gate")

    async def suppressed() -> bool:
        return bool((await document(run, "log"))["suppressed"])

    await eventually(suppressed)
    told = await run("log", "--channel", "ops")
    assert "1 event was not told to ops (open-doors): they were told before" in told.stderr
    assert "All messages were delivered" in await said(run, "failed")
    assert (await document(run, "retry", "--all")) == {"retried": []}
    assert "is changed" in await said(run, "change", "ops", "--no-quiet", "--at-least", "error")
    refused = await run("remove", "ops", stdin="n\n")
    assert refused.exit_code != 0
    assert "ops is removed" in await said(run, "remove", "ops", "--yes")
    assert (await document(run, "list")) == {"channels": []}


async def test_a_person_writes_changes_and_removes_routes(run: Run) -> None:
    assert "open-doors" in await said(run, "routes")
    added = await document(
        run,
        "route",
        "add",
        "closed",
        "--hook",
        "door-closed",
        "--title",
        "{{ event.door }}",
        "--window",
        "5s",
    )
    assert (added["windowSeconds"], added["builtIn"]) == (5.0, False)
    wrong = await run("route", "add", "wrong", "--hook", "door-closed", "--title", "{{ event.dor }}")
    assert wrong.exit_code == 1
    assert "did you mean door?" in str(wrong.exception)
    assert "is changed" in await said(run, "route", "change", "open-doors", "--off")
    assert "off" in await said(run, "routes")
    assert "open-doors is again as it came" in await said(run, "route", "remove", "open-doors", "--yes")
    assert "closed is removed" in await said(run, "route", "remove", "closed", "--yes")
    for nothing in (
        ("route", "change", "closed"),
        ("route", "add", "x"),
        ("retry",),
        ("change", "ops", "--zone", "UTC"),
    ):
        assert (await run(*nothing)).exit_code != 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ack", "xx"), "xx is no number of an incident: see `ringfence notify incidents`"),
        (("ack", "0"), "0 is no number of an incident"),
        (("retry", "xx"), "xx is no id of a message: see `ringfence notify failed`"),
    ],
    ids=" ".join,
)
def test_what_is_no_id_is_told_in_plain_words_without_asking_a_host(
    arguments: tuple[str, ...], told: str
) -> None:
    result = CliRunner().invoke(app, list(arguments))
    assert told in str(result.exception)
