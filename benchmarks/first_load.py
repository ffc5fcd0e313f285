"""What a browser loads for its first page, and how long that takes on the loopback: `python -m benchmarks.first_load`.

Debian's Chromium with an empty cache each time, signed in already, at a host with 5,000 satellites and 2,000 checks.
Each load has a window of its own, and begins once that is open: Chromium works for some 200 ms at its own tabs and
buttons then, whatever is loaded. The time is from the beginning of the navigation to the end of the `load` event, as
the browser itself measures it; `host` is when the last byte of the page's document was there. The size is what came
over the wire, heads included, until nothing more was loaded. `host CPU` and `database` are the processor time that
the host's event loop and the server of the database take for the document alone, asked for without a browser while
nothing else happens: they say more than the others on a machine that has more to do. All are medians, but for the
slowest.

Usage: python -m benchmarks.first_load [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import logging
import shutil
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import structlog
from playwright.async_api import Browser, CDPSession, async_playwright
from ringfence.host import serve
from ringfence.plugins.discovery import discover
from ringfence.settings import HostSettings
from ringfence.testing import make_reachable_directory

from benchmarks.lists import database, fill

SATELLITES, CHECKS, RESULTS = 5000, 2000, 21_000
PAGES = ("/", "/policy", "/satellites", "/checks")
MOST_KILOBYTES, MOST_MILLISECONDS = 200, 300
"""What a first load is to stay below."""
_LOOK_SECONDS, _IDLE_SHARE, _PAUSE_SECONDS = 1.5, 0.2, 0.05
_LOOK_AT_BROWSER_SECONDS, _BROWSER_IDLE_SHARE = 0.25, 0.1
_MEASURED = """
    () => {
        const [page] = performance.getEntriesByType("navigation");
        const loaded = [page, ...performance.getEntriesByType("resource")];
        const bytes = loaded.reduce((sum, one) => sum + one.transferSize, 0);
        return { bytes, host: page.responseEnd - page.startTime, load: page.loadEventEnd - page.startTime };
    }
"""
_QUIET = """
    () => new Promise((quiet) => {
        let before = -1;
        const look = setInterval(() => {
            const now = performance.getEntriesByType("resource").length;
            if (now === before) { clearInterval(look); quiet(); }
            before = now;
        }, 500);
    })
"""


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """One page, loaded into an empty cache."""

    kilobytes: float
    host_ms: float
    load_ms: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What the document of a page costs in milliseconds of processor time."""

    host_ms: float
    database_ms: float


async def until_window_is_open(session: CDPSession) -> None:
    """Wait until no process of the browser has anything to do."""
    before: dict[int, float] = {}
    while True:
        found = await session.send("SystemInfo.getProcessInfo")
        now = {one["id"]: one["cpuTime"] for one in found["processInfo"]}
        spent = sum(now.values()) - sum(before.values())
        if now.keys() == before.keys() and spent < _LOOK_AT_BROWSER_SECONDS * _BROWSER_IDLE_SHARE:
            return
        before = now
        await asyncio.sleep(_LOOK_AT_BROWSER_SECONDS)


async def load(browser: Browser, url: str, path: str, cookies: httpx.Cookies) -> FirstLoad:
    """Load a page in a new context, and so in a new window."""
    session = await browser.new_browser_cdp_session()
    context = await browser.new_context()
    try:
        await context.add_cookies(
            [{"name": name, "value": value, "url": url} for name, value in cookies.items()]
        )
        page = await context.new_page()
        await until_window_is_open(session)
        await page.goto(url + path, wait_until="load")
        await page.evaluate(_QUIET)
        found = await page.evaluate(_MEASURED)
    finally:
        await context.close()
        await session.detach()
    return FirstLoad(found["bytes"] / 1000, found["host"], found["load"])


async def server_of(url: str) -> int:
    """The process that all others of the database's server are children of."""
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
        row = await (await connection.execute("SHOW data_directory")).fetchone()
    assert row is not None
    return int((Path(row[0]) / "postmaster.pid").read_text().splitlines()[0])


async def until_idle() -> None:
    """Wait until the host has done what it does at its start."""
    while True:
        before = time.thread_time()
        await asyncio.sleep(_LOOK_SECONDS)
        if time.thread_time() - before < _LOOK_SECONDS * _IDLE_SHARE:
            return


async def cost(url: str, path: str, cookies: httpx.Cookies, server: int, rounds: int) -> Cost:
    """Ask for a document from another thread, so that this one does the host's work alone."""
    headers = {
        "cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "accept": "text/html",
    }
    connection = http.client.HTTPConnection(url.removeprefix("http://"))

    def ask() -> None:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, (path, answer.status)

    costs = []
    for _ in range(rounds):
        await asyncio.sleep(_PAUSE_SECONDS)
        host, database = time.thread_time(), children_seconds(server)
        await asyncio.to_thread(ask)
        spent = time.thread_time() - host
        # One that has ended meanwhile is left out.
        after = children_seconds(server)
        costs.append((spent, sum(seconds - database.get(one, 0.0) for one, seconds in after.items())))
    connection.close()
    return Cost(*(1000 * statistics.median(some) for some in zip(*costs, strict=True)))


def children_seconds(server: int) -> dict[str, float]:
    """The processor time of each child of a process so far (Documentation/scheduler/sched-stats.rst)."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == server:
                found[process.name] = int((process / "schedstat").read_text().split()[0]) / 1e9
    return found


async def run(rounds: int) -> bool:
    """Print the figures; whether all are below what they should be."""
    directory = make_reachable_directory()
    is_within = True
    chromium = shutil.which("chromium")
    assert chromium is not None, "chromium is not installed"
    try:
        async with database() as postgres, async_playwright() as playwright:
            settings = HostSettings(database_url=postgres.url, data_dir=Path(directory / "instance"), port=0)
            async with serve(settings, plugins=discover()):
                pass  # so that the tables are there
            await fill(postgres.url, RESULTS, satellites=SATELLITES, checks=CHECKS)
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            async with (
                serve(settings, plugins=discover()) as (host, url),
                httpx.AsyncClient(base_url=url, headers={"origin": url}) as http,
            ):
                gc.collect()
                gc.freeze()  # as `ringfence up` does once it serves
                token = host.data_dir.admin_token_path.read_text().strip()
                await http.post("/sign-in", data={"token": token})
                server = await server_of(postgres.url)
                heads = ("size", "host CPU", "database", "host", "load", "slowest")
                print(f"{'':<14}{''.join(f'{one:>12}' for one in heads)}")
                await until_idle()
                for path in PAGES:
                    await load(browser, url, path, http.cookies)  # the first warms up
                    loads = [await load(browser, url, path, http.cookies) for _ in range(rounds)]
                    size = max(one.kilobytes for one in loads)
                    times = [one.load_ms for one in loads]
                    middle = statistics.median(times)
                    answered = statistics.median(one.host_ms for one in loads)
                    spent = await cost(url, path, http.cookies, server, rounds)
                    shown = (spent.host_ms, spent.database_ms, answered, middle, max(times))
                    print(
                        f"{path:<14}{size:>9.1f} kB{''.join(f'{one:>9.0f} ms' for one in shown)}", flush=True
                    )
                    is_within = is_within and size < MOST_KILOBYTES and middle < MOST_MILLISECONDS
                print(f"{'at most':<14}{MOST_KILOBYTES:>9} kB{'':>36}{MOST_MILLISECONDS:>9} ms")
            await browser.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return is_within


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_load", description="Measure first loads."
    )
    parser.add_argument("--rounds", type=int, default=15)
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if not asyncio.run(run(wanted.rounds)):
        raise SystemExit(f"more than {MOST_KILOBYTES} kB or {MOST_MILLISECONDS} ms")


if __name__ == "__main__":
    main()
