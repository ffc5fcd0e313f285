"""An instance is killed under an open page, which goes on with another behind the same address."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser
from ringfence.testing import TestPostgres

from tests.browser.opening import opened
from tests.browser.proxy import proxy
from tests.primitives import requires
from tests.waiting import in_time

pytestmark = [pytest.mark.slow, requires("chromium"), pytest.mark.asyncio(loop_scope="session")]
HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instance:
    """A process, where it is reached, and its administrator's token."""

    process: asyncio.subprocess.Process
    url: str
    token: str

    async def make_token(self, name: str) -> None:
        """Have it change something that an open page shows."""
        headers = {"authorization": f"Bearer {self.token}"}
        body = {"name": name, "rules": ["host.plugin.read"]}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60) as api:
            answer = await api.post("/api/host/tokens", json=body)
            assert answer.status_code == 201, answer.text


@asynccontextmanager
async def instance(database: str, directory: Path) -> AsyncIterator[Instance]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.browser.instance_program",
        database,
        str(directory),
        cwd=HERE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with in_time("the instance says where it is"):
            while not (line := (await process.stdout.readline()).decode()).startswith("at "):
                assert line, "it has ended"
        _, url, token = line.split()
        yield Instance(process, url, token)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_page_goes_on_with_another_instance_when_its_own_is_killed_and_misses_nothing(
    postgres: TestPostgres, tmp_path: Path, browser: Browser
) -> None:
    database = await postgres.lend(())
    async with (
        instance(database, tmp_path / "first") as first,
        instance(database, tmp_path / "second") as second,
        proxy(first.url) as between,
        opened(between.url, first.token, browser=browser, cut=True) as page,
    ):
        await page.goto(f"{between.url}/tokens")
        await page.evaluate("window.mine = true")
        shows = page.locator("main tbody th")
        await first.make_token("before-it")
        await shows.filter(has_text="before-it").wait_for()

        first.process.send_signal(signal.SIGKILL)
        assert await first.process.wait() == -signal.SIGKILL
        await page.locator(".lost:not(.ended)").wait_for()
        for name in ("in-between", "also-in-between"):
            await second.make_token(name)
        assert await shows.filter(has_text="in-between").count() == 0

        between.to = second.url
        for name in ("in-between", "also-in-between"):
            await shows.filter(has_text=name).first.wait_for()
        await page.locator(".lost:not(.ended)").wait_for(state="hidden")
        await second.make_token("afterwards")
        await shows.filter(has_text="afterwards").wait_for()
        assert await page.evaluate("window.mine"), "nobody has loaded the page again"

        # What was loaded from the first is sent to the second.
        row = page.locator("tr", has=page.locator("th", has_text="before-it"))
        await row.locator("summary").click()
        await row.locator("button").click()
        await page.locator(".said", has_text="The token is revoked.").wait_for()
    await postgres.give_back(database)
