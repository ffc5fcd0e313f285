"""What a browser loads for its first page, and how long that takes on the loopback: `python -m benchmarks.first_load`.

Debian's Chromium with an empty cache each time, signed in already, at a host with 5,000 satellites and 2,000 checks.
The time is from the beginning of the navigation to the end of the `load` event, as the browser itself measures it;
`host` is when the last byte of the page's document was there. The size is what came over the wire, heads included,
until nothing more was loaded.

Usage: python -m benchmarks.first_load [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
from playwright.async_api import Browser, async_playwright
from ringfence.host import serve
from ringfence.plugins.discovery import discover
from ringfence.settings import HostSettings
from ringfence.testing import make_reachable_directory

from benchmarks.lists import database, fill

SATELLITES, CHECKS, RESULTS = 5000, 2000, 21_000
PAGES = ("/", "/policy", "/satellites", "/checks")
MOST_KILOBYTES, MOST_MILLISECONDS = 200, 300
"""What a first load is to stay below."""
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


async def load(browser: Browser, url: str, path: str, cookies: httpx.Cookies) -> FirstLoad:
    """Load a page in a new context."""
    context = await browser.new_context()
    try:
        await context.add_cookies(
            [{"name": name, "value": value, "url": url} for name, value in cookies.items()]
        )
        page = await context.new_page()
        await page.goto(url + path, wait_until="load")
        await page.evaluate(_QUIET)
        found = await page.evaluate(_MEASURED)
    finally:
        await context.close()
    return FirstLoad(found["bytes"] / 1000, found["host"], found["load"])


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
                print(f"{'':<14}{'size':>12}{'host':>10}{'load':>10}{'slowest':>10}")
                for path in PAGES:
                    await load(browser, url, path, http.cookies)  # the first warms up
                    loads = [await load(browser, url, path, http.cookies) for _ in range(rounds)]
                    size = max(one.kilobytes for one in loads)
                    times = [one.load_ms for one in loads]
                    middle = statistics.median(times)
                    answered = statistics.median(one.host_ms for one in loads)
                    print(
                        f"{path:<14}{size:>9.1f} kB{answered:>7.0f} ms{middle:>7.0f} ms{max(times):>7.0f} ms"
                    )
                    is_within = is_within and size < MOST_KILOBYTES and middle < MOST_MILLISECONDS
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
