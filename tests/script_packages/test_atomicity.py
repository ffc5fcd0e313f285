"""A policy write is all or nothing: the row, the event and the hook, whenever the writer dies."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ringfence import Event, Mode, PluginContext, PluginInfo, hookimpl
from ringfence.eventlog import last_position, read_stream
from ringfence.host import Host
from ringfence.testing import RunHost
from ringfence_script_packages.hooks import POLICY_STREAM, SandboxPolicyChanged, sandbox_policy_changed
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_script_packages.service import SandboxPolicyService

from tests.waiting import in_time


class Witness:
    """A plugin that notes every revision that it hears of."""

    info = PluginInfo(id="witness", version="1", requires=("script-packages",))

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.context: PluginContext

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        self.context = context

        async def hear(event: Event[SandboxPolicyChanged]) -> None:
            self.heard.append(event.payload.revision)

        context.on_hook(sandbox_policy_changed, hear, mode=Mode.BROADCAST)


@asynccontextmanager
async def writer(url: str, data_dir: Path) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
    """A process that writes a policy and dies before a statement of one's choice; yields how to have it write."""
    pipe = asyncio.subprocess.PIPE
    program = ("-m", "tests.script_packages.dying_writer", url, str(data_dir))
    process = await asyncio.create_subprocess_exec(sys.executable, *program, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def write(fatal: int) -> int:
        stdin.write(b"%d\n" % fatal)
        async with in_time("the writer answers"):
            return int(await stdout.readline())

    yield write
    await process.communicate(b"")


async def states_agree(host: Host, witness: Witness) -> int:
    """Check that stream, row and listener tell of the same revision, and answer it."""
    async with host.runtime.database.sessions() as session:
        events = await read_stream(session, POLICY_STREAM)
        end = await last_position(session)
    async with in_time("the witness hears the end of the log"):
        await witness.context.wait_for_event(end)
    assert [event.version for event in events] == list(range(1, len(events) + 1))
    assert witness.heard == [event.version for event in events]
    policies = witness.context.services.get(SandboxPolicyService)
    assert (await policies.current()).revision == len(events)
    return len(events)


@pytest.mark.slow
async def test_killed_between_any_two_statements_a_write_is_there_as_a_whole_or_not_at_all(
    run_host: RunHost, database_url: str, tmp_path: Path
) -> None:
    witness = Witness()
    host = await run_host(plugins=[ScriptPackagesPlugin(), witness])
    revisions = []
    async with writer(database_url, tmp_path / "writer") as write:
        for fatal in itertools.count(1):
            status = await write(fatal)
            assert status in {0, -signal.SIGKILL}
            revisions.append(await states_agree(host, witness))
            if status == 0:
                break
    assert len(revisions) > 5, "authentication, reading, appending, projecting, committing"
    assert set(revisions[:-1]) == {0}, "each of these died before its COMMIT was sent"
    assert revisions[-1] == 1
