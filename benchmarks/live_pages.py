"""How soon an open page shows a change, and how long pages of thousands take: `python -m benchmarks.live_pages`.

A real host with 5,000 satellites and 2,000 checks, and Debian's Chromium on its list of satellites. A change is another
region of a satellite: the time is from the moment at which it was committed until the browser is about to paint the
text, by the one clock of the machine. `quiet`: one change after the other, with pauses; `busy`: the same while some
hundred other changes are told each second. Then pages by turns, over HTTP, with `/healthz` beside them.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
from playwright.async_api import Page
from ringfence.storage.embedded import EmbeddedPostgres
from ringfence.testing import TEST_SERVER_OPTIONS, TestPostgres, installed, make_reachable_directory
from ringfence_satellite.hooks import SatelliteChanged, satellite_changed, stream_of
from ringfence_satellite.plugin import SatellitePlugin
from sqlalchemy import text

from tests.browser.opening import browsing
from tests.browser.thousands import fill_with_thousands
from tests.browser.worlds import World, world_of

CHANGES, ROUNDS = 40, 15
OTHERS_EACH_SECOND = 100
PAGES = (
    "/healthz",
    "/",
    "/satellites",
    "/satellites?sort=-seen",
    "/satellites?q=satellite-04999",
    "/checks",
    "/checks?state=unhealthy",
    "/checks?q=check-01999",
    "/events",
    "/find?q=satellite-049",
)
_SHOWN = """words => new Promise(shown => {
    const look = () => document.querySelector('main').innerText.includes(words)
        ? requestAnimationFrame(() => shown(Date.now() / 1000)) : requestAnimationFrame(look);
    look();
})"""
_RENAME = text("UPDATE satellite_satellites SET region = :region WHERE id = :id")
_FIRST = text("SELECT id FROM satellite_satellites ORDER BY name LIMIT 100")


class Fleet:
    """Changes satellites, as whoever edits them does."""

    def __init__(self, world: World) -> None:
        (self._plugin,) = (
            one.plugin for one in world.host.plugins if isinstance(one.plugin, SatellitePlugin)
        )
        self._world = world

    async def some(self) -> Sequence[uuid.UUID]:
        """The satellites of the first page."""
        async with self._world.host.database.sessions() as session:
            return list((await session.execute(_FIRST)).scalars())

    async def change(self, id: uuid.UUID, region: str) -> float:
        """Give one another region, and tell of it in the same transaction; when that was committed."""
        fact = SatelliteChanged(satellite_id=id, name="x", region=region, tags=(), offline_after_seconds=45.0)
        async with self._world.host.database.sessions.begin() as session:
            await session.execute(_RENAME, {"region": region, "id": id})
            await self._plugin._context.emit_hook(
                satellite_changed, fact, session=session, stream=stream_of(id)
            )
        return time.time()


@asynccontextmanager
async def others_change(fleet: Fleet, ids: Sequence[uuid.UUID]) -> AsyncIterator[None]:
    """Have many others change while the block runs."""

    async def on() -> None:
        while True:
            await fleet.change(random.choice(ids), "busy")
            await asyncio.sleep(1 / OTHERS_EACH_SECOND)

    changing = asyncio.create_task(on())
    try:
        yield
    finally:
        changing.cancel()
        with suppress(asyncio.CancelledError):
            await changing


async def until_shown(page: Page, fleet: Fleet, id: uuid.UUID) -> list[float]:
    """Seconds from a change to its text on the screen, of many changes."""
    took = []
    for _ in range(CHANGES):
        await asyncio.sleep(random.uniform(0.2, 1.5))
        region = f"region-{uuid.uuid4().hex[:8]}"
        shown = asyncio.create_task(page.evaluate(_SHOWN, region))
        committed = await fleet.change(id, region)
        took.append(await shown - committed)
    return took


async def answered(world: World) -> None:
    """Print how long pages take."""
    headers = {"origin": world.url, "accept": "text/html"}
    async with httpx.AsyncClient(base_url=world.url, headers=headers, timeout=60) as http:
        await http.post("/sign-in", data={"token": world.admin})
        took: dict[str, list[float]] = {path: [] for path in PAGES}
        sizes = {}
        for _ in range(ROUNDS):
            for path in PAGES:
                began = time.perf_counter()
                answer = await http.get(path)
                took[path].append(time.perf_counter() - began)
                sizes[path] = len(answer.content)
        for path, seconds in took.items():
            told(f"{path} ({sizes[path] / 1000:.0f} kB)", seconds)


def told(what: str, seconds: Sequence[float]) -> None:
    middle, worst = statistics.median(seconds) * 1000, max(seconds) * 1000
    print(f"{what}: {middle:.0f} ms (worst of {len(seconds)}: {worst:.0f} ms)", flush=True)


async def main() -> None:
    """Print all of it."""
    directory = make_reachable_directory()
    server = EmbeddedPostgres(directory / "postgres", options=TEST_SERVER_OPTIONS)
    await server.start()
    try:
        postgres = TestPostgres(server)
        with tempfile.TemporaryDirectory() as data:
            async with (
                browsing() as browser,
                world_of(postgres, Path(data), browser, installed("health-checks")) as world,
            ):
                await fill_with_thousands(world.host)
                fleet = Fleet(world)
                first, *others = await fleet.some()
                async with world.opened() as page:
                    await page.goto(f"{world.url}/satellites")
                    told("a change on the screen, quiet", await until_shown(page, fleet, first))
                    async with others_change(fleet, others):
                        told("a change on the screen, busy", await until_shown(page, fleet, first))
                await answered(world)
        postgres.close()
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
