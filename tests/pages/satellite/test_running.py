"""Scripts that are run from a page, by a real agent: their output as it comes, their report, and their end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from ringfence.pages.streams import MOST_PER_SESSION

from tests.pages.conftest import Browse, Browser
from tests.pages.satellite.conftest import READ, RUN
from tests.primitives import requires
from tests.satellite.conftest import StartInstance
from tests.satellite.instances import RUNS, Instance, Registered
from tests.satellite.test_agent_process import agent
from tests.waiting import in_time, until

FORM = {"kind": "shell", "script": "echo done", "args": "", "needs": "", "packages": "", "timeout": "30"}


@dataclass(slots=True)
class Stream:
    """What a browser hears of a run."""

    text: str = ""
    last: str = ""
    end: dict[str, str] | None = None
    lines: list[str] = field(default_factory=list)
    is_over: bool = False

    async def read(self, response: httpx.Response) -> None:
        event = ""
        async for line in response.aiter_lines():
            self.lines.append(line)
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "id":
                self.last = value
            elif name == "data" and event == "output":
                self.text += json.loads(value)["text"]
            elif name == "data" and event == "end":
                self.end = json.loads(value)
        self.is_over = True


@asynccontextmanager
async def streamed(instance: Instance, browser: Browser, path: str, **headers: str) -> AsyncIterator[Stream]:
    """The stream of a run, over real HTTP with the cookies of a browser."""
    stream = Stream()
    cookies = dict(browser.http.cookies)
    async with (
        httpx.AsyncClient(base_url=instance.url, cookies=cookies, timeout=60) as http,
        http.stream("GET", f"{path}/output", headers={"host": "127.0.0.1:8484", **headers}) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        reading = asyncio.create_task(stream.read(response))
        try:
            yield stream
        finally:
            reading.cancel()


async def asked(browser: Browser, satellite: Registered, **fields: str) -> str:
    answer = await browser.act(f"/satellites/{satellite.id}/runs", **{**FORM, **fields})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


@requires("user namespaces")
async def test_a_script_is_run_from_a_page_and_watched_until_it_ends(
    start_instance: StartInstance, browse: Browse, tmp_path: Path
) -> None:
    here, there = await start_instance(), await start_instance()
    satellite = await here.register("berlin")
    browser, reader = await browse(here.host), await browse(here.host, rules=[READ])
    async with agent(there, satellite, tmp_path):
        await here.until(satellite, lambda one: one["appliedRevision"] == 0)
        page = (await browser.get(f"/satellites/{satellite.id}")).text
        assert "Run a script" in page
        assert "A script reaches what the policy allows" in page
        script = 'echo "begun $1"; echo "<b>bad" >&2; sleep 600; echo never'
        run = await asked(browser, satellite, script=script, args="two words\nmore", timeout="600")
        assert (await reader.get(run)).status_code == 403
        async with streamed(here, browser, run) as stream:
            await until(lambda: "begun two words" in stream.text and "<b>bad" in stream.text, "it is told")
            # Who comes later, and says where they were, hears what they have not heard.
            async with streamed(there, browser, run, **{"last-event-id": stream.last}) as later:
                shown = (await browser.get(run)).text
                assert f'data-stream="{run}/output"' in shown
                assert "&lt;b&gt;bad" in shown
                assert (await reader.act(f"{run}/cancel")).status_code == 403
                assert (await browser.act(f"{run}/cancel")).status_code == 303
                await until(lambda: stream.end and later.end, "the end is told, on either instance")
            assert later.text == ""
        assert stream.end is not None
        assert stream.end["status"] == "cancelled"
        shown = (await browser.get(run)).text
        assert "cancelled" in shown
        assert "begun two words" in shown

        run = await asked(browser, satellite, script="echo out; echo err >&2; exit 3")
        await here.ended({"id": run.rpartition("/")[2], "state": "?"})
        shown = (await browser.get(run)).text
        assert re.search(r"<dt>Exit code</dt><dd>3</dd>", shown)
        assert re.search('<pre class="output"[^>]*>out', shown)
        assert re.search('<pre class="output"[^>]*>err', shown)
        assert "enforced" in shown
        assert "data-stream" not in shown
        assert run in (await browser.get(f"/satellites/{satellite.id}")).text


@pytest.mark.slow
async def test_a_stream_ends_with_the_session_and_when_the_instance_drains(
    start_instance: StartInstance, browse: Browse
) -> None:
    here, there = await start_instance(), await start_instance()
    satellite = await here.register()
    browser, other = await browse(here.host, rules=[RUN]), await browse(here.host, rules=[RUN])
    run = await asked(browser, satellite)
    async with streamed(here, browser, run) as ended, streamed(there, other, run) as drained:
        await until(lambda: ended.lines and drained.lines, "both hear something")
        await browser.act("/sign-out")
        await until(lambda: ended.is_over, "it ends with the session")
        there.host.runtime.drain.ask()
        await until(lambda: drained.is_over, "it ends when the instance drains")


async def test_a_session_has_only_so_many_streams(instance: Instance, browse: Browse) -> None:
    satellite = await instance.register()
    browser = await browse(instance.host, rules=[RUN])
    run = await asked(browser, satellite)
    streams = instance.host.app.state.streams
    async with asyncio.TaskGroup() as tasks:
        done = asyncio.Event()

        async def hold() -> None:
            async with streamed(instance, browser, run):
                await done.wait()

        for _ in range(MOST_PER_SESSION):
            tasks.create_task(hold())
        await until(lambda: streams.open == MOST_PER_SESSION, "all are open")
        answer = await browser.get(f"{run}/output")
        assert answer.status_code == 429
        done.set()
    await until(lambda: streams.open == 0, "none is held for a browser that has gone")


async def test_a_run_that_cannot_be_is_told_beside_its_field(instance: Instance, browse: Browse) -> None:
    satellite = await instance.register(labels={"role": "web"})
    browser = await browse(instance.host)
    path = f"/satellites/{satellite.id}/runs"
    wrong = {
        "script": ("", " \n"),
        "kind": ("cobol",),
        "needs": ("{", "[]", '{"network": ["no address!"]}', "[" * 100_000),
        "timeout": ("soon", "0", "1e300", "nan", "99999999"),
        "packages": ("No Such Set!", "unknown"),
    }
    for name, values in wrong.items():
        for value in values:
            answer = await browser.act(path, **{**FORM, name: value})
            assert answer.status_code == 422, (name, value)
            assert 'class="error"' in answer.text, (name, value)
            assert "echo done" in answer.text or name == "script"
    assert (await instance.api.get(RUNS)).json()["runs"] == []
    narrowed = await browse(instance.host, rules=[READ, f"{RUN} on role=api"])
    assert (await narrowed.act(path, **FORM)).status_code == 403
    assert (await narrowed.get(f"/satellites/{satellite.id}/run")).status_code == 403
    assert (await browser.post(path, FORM)).status_code == 403
    run = await asked(browser, satellite)
    assert (await narrowed.get(run)).status_code == 403
    assert (await narrowed.get(f"{run}/output")).status_code == 403
    assert (await browser.get(f"/satellites/{satellite.id}/runs/{satellite.id}")).status_code == 404


async def test_open_pages_hear_of_what_happens_to_satellites(
    start_instance: StartInstance, browse: Browse
) -> None:
    here, there = await start_instance(), await start_instance()
    satellite = await here.register()
    browser = await browse(here.host, rules=[READ])
    one = f"/satellites/{satellite.id}"
    parts = {"watch": ["/satellites", "/satellites/{id}"]}
    heard: list[str] = []

    async def listen() -> None:
        # As a browser does, which connects again where it was cut.
        at: dict[str, str] = {}
        async with httpx.AsyncClient(base_url=here.url, cookies=dict(browser.http.cookies)) as http:
            while True:
                headers = {"host": "127.0.0.1:8484", **at}
                async with http.stream("GET", "/live", params=parts, headers=headers, timeout=60) as response:
                    async for line in response.aiter_lines():
                        if line.startswith("id: "):
                            at = {"last-event-id": line.removeprefix("id: ")}
                        if line.startswith("data: "):
                            heard.append(line)

    listening = asyncio.create_task(listen())
    try:
        async with in_time("what happens at another instance is heard of"):
            async with there.connected(satellite) as peer:
                await until(lambda: len(heard) >= 1, "it has connected")
                assert heard[0] == "data: /satellites /satellites/{id}"
                await here.until(satellite, lambda shown: shown["status"] == "online")
                before = len(heard)
                await peer.applied(0)
                await until(lambda: len(heard) > before, "it has acknowledged the policy")
                page = (await browser.get(f"{one}?fragment={one.replace(satellite.id, '%7Bid%7D')}")).text
                assert "acknowledged" in page
                before = len(heard)
            await until(lambda: len(heard) > before, "it has disconnected")
    finally:
        listening.cancel()
