"""Pictures of its pages, light, dark and as on a phone: `python -m tests.lifelike.screenshots [FOLDER] [--few]`.

With `--few`, it is only those of the documents: the overview, the policy, checks, a satellite, and a run.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, ViewportSize
from ringfence.host import Host, serve
from ringfence.plugins.discovery import discover
from ringfence.settings import HostSettings
from ringfence.testing import make_reachable_directory

from tests.browser.opening import browsing
from tests.browser.walking import Walk
from tests.lifelike.filling import Filling, filled

WIDE: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 360, "height": 740}
LOOKS: dict[str, tuple[ViewportSize, Literal["light", "dark"]]] = {
    "light": (WIDE, "light"),
    "dark": (WIDE, "dark"),
    "phone": (PHONE, "light"),
}
HIGHEST = 2600
"""Of a page that is longer, the picture has the upper part."""


async def signed_in(browser: Browser, url: str, host: Host) -> Page:
    """A page of the administrator's."""
    page = await browser.new_page(reduced_motion="reduce")
    page.set_default_timeout(60_000)
    await page.goto(f"{url}/sign-in")
    await page.fill("#token", host.data_dir.admin_token_path.read_text().strip())
    await page.press("#token", "Enter")
    await page.wait_for_url(f"{url}/")
    return page


async def shoot(page: Page, file: Path) -> None:
    """The whole page, once what it loads later is there."""
    for chart in await page.locator("[data-chart]").all():
        await chart.locator("canvas, p[role=status]:not(:empty)").first.wait_for(state="attached")
    await page.evaluate("new Promise(shown => requestAnimationFrame(() => requestAnimationFrame(shown)))")
    size = page.viewport_size or WIDE
    height = min(HIGHEST, await page.evaluate("document.documentElement.scrollHeight"))
    clip = {"x": 0.0, "y": 0.0, "width": size["width"], "height": max(height, size["height"])}
    await page.screenshot(path=file, clip=clip, full_page=True)  # type: ignore[arg-type]


def name_of(path: str) -> str:
    """A file's name for a page, without the ids in its path."""
    without = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "one", path.partition("?")[0].strip("/"))
    return re.sub(r"[^a-z0-9]+", "-", without.lower()).strip("-") or "overview"


async def paths_of(host: Host, url: str, filling: Filling, page: Page, *, few: bool) -> list[str]:
    """One of each page, and those that tell most; with `few`, these alone."""
    walk = Walk(host, url)
    found = ["/", "/policy"] if few else [path async for path in walk.pages(page) if walk.is_first(path)]
    answer = await filling.send("GET", "/api/health-checks/checks")
    checks = {one["name"]: one["id"] for one in answer["checks"]}
    web = filling.fleet.ids["web-fra-1"]
    best = [
        f"/checks/{checks['shop-checkout']}?place={web}",
        f"/checks/{checks['disk-var']}",
        f"/satellites/{web}",
        f"/runs/{filling.run}",
    ]
    return [*best, *(path for path in found if path not in best)]


async def main(folder: Path, *, few: bool) -> None:
    """Shoot all of it into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    for look in LOOKS:
        (folder / look).mkdir(parents=True)
    directory = make_reachable_directory()
    try:
        settings = HostSettings(data_dir=directory, port=0)
        async with (
            serve(settings, plugins=discover()) as (host, url),
            filled(host, url) as filling,
            browsing() as browser,
        ):
            page = await signed_in(browser, url, host)
            names: dict[str, int] = {}
            for path in await paths_of(host, url, filling, page, few=few):
                await page.goto(url + path)
                name = name_of(path)
                names[name] = names.get(name, 0) + 1
                file = f"{name}{names[name] if names[name] > 1 else ''}.png"
                for look, (viewport, scheme) in LOOKS.items():
                    await page.set_viewport_size(viewport)
                    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                    await shoot(page, folder / look / file)
            print(f"{len(LOOKS) * sum(names.values())} pictures are in {folder}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    given = [one for one in sys.argv[1:] if one != "--few"]
    asyncio.run(main(Path(given[0] if given else "build/screenshots"), few="--few" in sys.argv))
