"""Whatever on a command line names something of a host, or of this machine, is completed: of every command."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ringfence.cli import completing
from ringfence.cli.app import app
from ringfence.testing import PATIENCE_SECONDS, Host, RunHost, client, served, signed_in

from tests.cli.test_wrong_command_lines import TREE
from tests.declaring.declaring import FILES, apply

FREE = {
    "CEL", "CHANGE...", "CLAIM", "CODE", "DIR", "DIR|FILE|-", "DURATION", "ENTRY", "FILE", "FILE|DIR", "FILE|JSON",
    "FROM-UNTIL", "JSON", "KEY", "NAME=VALUE", "NAME=VALUE|NAME-…", "NAME=VARIABLE", "PACKAGE...", "REVISION:HASH",
    "SELECTOR", "NAME=VALUE|NAME", "SPAN|TIME", "TEXT", "TIME", "TIMES", "URL", "WORDS", "[FILE]...", "-- ARGS",
}  # fmt: skip
"""What people write themselves, or the shell completes without help: by what help shows in its place."""
NEW = {
    ("check create", "name"),
    ("check create", "--system"),
    ("check update", "--name"),
    ("check update", "--system"),
    ("notify add", "address"),
    ("plugin new", "name"),
    ("plugin migration", "name"),
    ("gitops give-back", "name"),  # of any kind
    ("gitops release", "name"),
    ("satellite create", "name"),
    ("satellite enrol", "name"),
    ("satellite update", "--name"),
    ("token create", "name"),
}
"""Names that are only just given."""
ANYWHERE = {
    "--branch", "--client-id", "--host", "--metrics-address", "--reason", "--request", "--run", "--run-as", "--source",
    "--unset", "--url", "--username",
}  # fmt: skip
"""What names nothing that a host could list."""
MADE_BY_ACCIDENT = {"events replay", "notify ack", "notify retry"}
"""Commands about what is there only after something has failed."""
PLAIN = (bool, int, float, Path)


def texts() -> Iterator[tuple[str, str, Any]]:
    """Each parameter that is a text: the words of the command, what the parameter is called, and the parameter."""
    for path, command in TREE.items():
        for one in [] if hasattr(command, "commands") else command.params:
            kind = one.type_descriptor.annotation
            if isinstance(kind, type) and issubclass(kind, (*PLAIN, enum.Enum)):
                continue
            yield " ".join(path), one.opts[0], one


def is_completed(parameter: Any) -> bool:
    return parameter._custom_shell_complete is not None


def test_every_name_is_completed() -> None:
    left = [
        (words, called, one.metavar)
        for words, called, one in texts()
        if not is_completed(one)
        and one.metavar not in FREE
        and called not in ANYWHERE
        and (words, called) not in NEW
    ]
    assert left == []


async def fill(host: Host) -> None:
    """Have one of everything that has a name there."""
    async with client(host) as http, signed_in(host, http):
        await http.put("/api/secrets/secrets/ON_CALL", json={"value": "json://127.0.0.1:9"})
        await apply(http, FILES)
        source = {"url": "https://127.0.0.1:9/infra.git"}
        assert (await http.put("/api/gitops/sources/infra", json=source)).status_code < 300
        [satellite] = (await http.get("/api/satellite/satellites")).json()["satellites"]
        run = {"kind": "shell", "script": "true", "deliverWithinSeconds": 60}
        await http.post(f"/api/satellite/satellites/{satellite['id']}/runs", json=run)
        await http.post("/api/automations/automations/greet/runs", json={})


@pytest.mark.slow
async def test_what_completes_a_name_finds_one_where_there_is_one(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "ALTOGETHER_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(completing, "SECONDS", PATIENCE_SECONDS)
    host = await run_host()
    async with served(host) as url, client(host) as http:
        await fill(host)
        monkeypatch.setenv("RINGFENCE_URL", url)
        monkeypatch.setenv("RINGFENCE_TOKEN", http.headers["Authorization"].removeprefix("Bearer "))
        context = typer.main.get_command(app).make_context("ringfence", [], resilient_parsing=True)
        asked: dict[Any, list[Any]] = {}
        for words, called, parameter in texts():
            how = parameter.type_descriptor.parameter_info.autocompletion  # the same for many of them
            if how is None or words in MADE_BY_ACCIDENT:
                continue
            if how not in asked:
                asked[how] = await asyncio.to_thread(parameter.shell_complete, context, "")
            assert asked[how], (words, called)
