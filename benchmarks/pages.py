"""How much a browser loads for its first page, and how long the host takes over that on the loopback."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import time

import httpx
from ringfence.host import serve
from ringfence.settings import HostSettings
from ringfence.testing import make_reachable_directory

ROUNDS = 20


async def main() -> None:
    """Print both."""
    directory = make_reachable_directory()
    try:
        async with serve(HostSettings(data_dir=directory, port=0), plugins=[]) as (host, url):
            token = host.data_dir.admin_token_path.read_text().strip()
            took: list[float] = []
            for _ in range(ROUNDS):
                async with httpx.AsyncClient(base_url=url, headers={"origin": url}) as http:
                    if not took:
                        await http.post("/sign-in", data={"token": token})
                        cookies = http.cookies
                    http.cookies = cookies
                    began, size = time.perf_counter(), 0
                    page = await http.get("/")
                    paths = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text)
                    for answer in (page, *await asyncio.gather(*map(http.get, paths))):
                        size += int(answer.headers["content-length"])
                    took.append(time.perf_counter() - began)
            middle, worst = statistics.median(took) * 1000, max(took) * 1000
            print(f"first load: {size / 1000:.1f} kB, {middle:.0f} ms (worst of {ROUNDS}: {worst:.0f} ms)")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    asyncio.run(main())
