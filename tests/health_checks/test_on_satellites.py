"""Real agents: they run what they are assigned, with their core and without it, and no result is lost or told twice."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ringfence.testing import eventually

from tests.health_checks.conftest import SECONDS, Checking, StartInstance, agent, spooled
from tests.primitives import requires
from tests.satellite.instances import Instance, Registered

pytestmark = requires("user namespaces")

SECRET = "correct-horse-battery-staple"


@asynccontextmanager
async def cable(instance: Instance) -> AsyncIterator[Cable]:
    """A line to the instance that can be cut and mended."""
    found = Cable(int(instance.url.rsplit(":", 1)[1]))
    server = await asyncio.start_server(found.plugged_in, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        found.cut()
        server.close()


class Cable:
    """Passes bytes on, unless it is cut; then it drops whoever is connected, and whoever tries."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self._port = port
        self._whole = True
        self._ends: set[asyncio.StreamWriter] = set()
        self.swallows = False
        """Whether what the satellite says gets lost on the way, without anybody noticing yet."""
        self.drop_after: int | None = None
        """How many bytes more may come from the core before the line breaks."""

    def cut(self) -> None:
        self._whole = False
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        self._whole = True

    async def plugged_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        ends = {writer, far_writer}
        self._ends |= ends
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, far_writer, core=False))
                tasks.create_task(self._pass(far_reader, writer, core=True))
        except* OSError:
            pass
        finally:
            self._ends -= ends
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, core: bool) -> None:
        while data := await reader.read(65536):
            if core and self.drop_after is not None:
                self.drop_after -= len(data)
                if self.drop_after < 0:
                    self.drop_after = None
                    raise ConnectionResetError("the line breaks here")
            if self.swallows and not core:
                continue
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError("one end has gone")


async def registered(instance: Instance, *tags: str) -> Registered:
    return await instance.register("web", tags=list(tags))


async def test_a_satellite_runs_its_checks_and_its_results_carry_the_report(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await registered(instance, "web")
    async with agent(instance.url, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["status"] == "online")
        script = "def main(context):\n    return {'status': 'degraded', 'message': 'slow', 'metrics': {'ms': 12.5}}"
        check = await checking.create(kind="python", script=script, runsOn={"tags": ["web"]})
        found = await checking.until(check, lambda results: len(results) >= 3)
        assert {(one["status"], one["message"], one["metrics"]["ms"]) for one in found} == {
            ("degraded", "slow", 12.5)
        }
        assert all(one["ranOn"] == satellite.id and one["latencyMs"] > 0 for one in found)
        assert all(one["sandbox"]["enforced"]["network"] for one in found)
        await checking.change(check, script="import sys\nsys.exit('no route')")
        [newest, *_] = await checking.until(check, lambda results: results[0]["status"] == "unhealthy")
        assert newest["message"] == "no route"


@pytest.mark.slow
async def test_it_goes_on_without_its_core_under_the_last_policy_and_delivers_each_result_once(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await registered(instance, "web")
    await instance.set_policy({"resources": {"cpuSeconds": 7}})
    check = await checking.create(script="ulimit -t", runsOn={"tags": ["web"]})
    seen: set[str] = set()
    async with cable(instance) as line:
        async with agent(line.url, satellite, tmp_path):
            await checking.until(check, len)
            line.cut()
            # A change that it cannot hear of: until it does, the last policy that it applied holds.
            await instance.set_policy({"resources": {"cpuSeconds": 9}})

            async def many_wait() -> bool:
                return len(spooled(tmp_path)) >= 5

            await eventually(many_wait, seconds=SECONDS)
            waiting = spooled(tmp_path)
            assert {one["result"]["message"] for one in waiting} == {"7"}
            seen |= {one["resultId"] for one in waiting}
        # Stopped and started again without a core: what waited on its disk waits still.
        assert seen <= {one["resultId"] for one in spooled(tmp_path)}
        line.mend()
        async with agent(line.url, satellite, tmp_path):
            found = await checking.until(
                check,
                lambda results: seen <= {one["id"] for one in results} and results[0]["message"] == "9",
            )
            delivered = {one["id"] for one in found}

            async def settled() -> bool:
                return not {one["resultId"] for one in spooled(tmp_path)} & delivered

            await eventually(settled, seconds=SECONDS)
    assert max(Counter(one["id"] for one in found).values()) == 1


@pytest.mark.slow
async def test_no_result_is_lost_or_told_twice_over_a_line_that_breaks_again_and_again(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await registered(instance, "web")
    script = "date +%s%N"
    check = await checking.create(script=script, intervalSeconds=0.2, runsOn={"tags": ["web"]})
    async with cable(instance) as line, agent(line.url, satellite, tmp_path):
        await checking.until(check, len)
        line.swallows = True

        async def sent_in_vain() -> list[str]:
            waiting = [one["resultId"] for one in spooled(tmp_path)]
            return waiting if len(waiting) > 3 else []

        lost = await eventually(sent_in_vain, seconds=SECONDS)
        line.cut()
        line.swallows = False
        line.mend()
        await checking.until(check, lambda results: set(lost) <= {one["id"] for one in results})
        for enough in (300, 150):
            # The core's acknowledgements are what breaks off, of results that were stored.
            line.drop_after = enough

            async def broken() -> bool:
                return line.drop_after is None

            await eventually(broken, seconds=2 * SECONDS)
        count = len(await checking.results(check))
        await checking.until(check, lambda results: len(results) > count + 5)
        await checking.change(check, enabled=False)

        async def nothing_waits() -> bool:
            return not spooled(tmp_path)

        await eventually(nothing_waits, seconds=2 * SECONDS)
        found = await checking.results(check)
    messages = Counter(one["message"] for one in found)
    assert max(messages.values()) == 1
    # No gap: 5 runs a second, each on its grid. What may lie between two of them is a late start, and no lost result.
    moments = sorted(int(message) / 1e9 for message in messages)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert max(gaps) < 5.0
    assert len(moments) >= (moments[-1] - moments[0]) / 0.2 * 0.5


@pytest.mark.slow
async def test_results_of_an_instance_that_dies_go_to_the_next(
    start_instance: StartInstance, tmp_path: Path
) -> None:
    first, second = await start_instance(), await start_instance()
    checking = Checking(second.api)
    satellite = await first.register("web", tags=["web"])
    check = await checking.create(script="echo fine", runsOn={"tags": ["web"]})
    async with cable(first) as line, agent(line.url, satellite, tmp_path):
        await checking.until(check, len)
        line.cut()
        line._port = int(second.url.rsplit(":", 1)[1])
        line.mend()
        shown = await second.until(satellite, lambda one: one["instance"] == str(second.host.instance_id))
        assert shown["status"] == "online"
        count = len(await checking.results(check))
        await checking.until(check, lambda results: len(results) > count + 2)


async def test_secrets_come_just_in_time_and_are_left_nowhere(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await registered(instance, "web")
    await checking.set_secret("API_TOKEN", SECRET)
    async with cable(instance) as line, agent(line.url, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["status"] == "online")
        check = await checking.create(
            kind="python",
            script="import os, sys\n"
            "def main(context):\n"
            "    token = os.environ['API_TOKEN']\n"
            "    print(token, file=sys.stderr)\n"
            "    return {'status': 'healthy', 'message': f'{token} has {len(token)}', 'metrics': {token: 1}}",
            secrets=["API_TOKEN"],
            runsOn={"tags": ["web"]},
        )
        [newest, *_] = await checking.until(check, len)
        assert newest["status"] == "healthy", newest
        assert newest["message"] == f"*** has {len(SECRET)}"
        assert newest["stderr"].strip() == "***"
        # On demand too, and through the answer as well.
        [ran] = await checking.run(check)
        assert ran["message"] == f"*** has {len(SECRET)}"

        line.cut()

        async def without() -> list[dict[str, Any]]:
            return [one for one in spooled(tmp_path) if "no connection" in one["result"]["message"]]

        [kept, *_] = await eventually(without, seconds=SECONDS)
        assert kept["status"] == "unknown"
        assert "the satellite stores no secrets" in kept["result"]["message"]
    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(everything) > 3
    assert not any(SECRET.encode() in each for each in everything)
    assert SECRET not in str(await checking.results(check))


@pytest.mark.slow
async def test_a_second_agent_in_the_same_place_says_who_is_there(instance: Instance, tmp_path: Path) -> None:
    satellite = await registered(instance)
    async with agent(instance.url, satellite, tmp_path):
        await instance.until(satellite, lambda one: one["status"] == "online")
        async with agent(instance.url, satellite, tmp_path) as second:
            assert await asyncio.wait_for(second.wait(), SECONDS) == 2
    assert "in use by another agent" in (tmp_path / "agent.log").read_text()
