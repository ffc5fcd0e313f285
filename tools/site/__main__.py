"""Builds the site into `build/docs/site`: `python -m tools.site`.

It works without a network, and loads nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ringfence.host import Host
from ringfence.process import logs
from ringfence.settings import HostSettings

from tools.site import links, reference, sources

BUILD = sources.ROOT / "build" / "docs"
CONFIGURATION = Path(__file__).with_name("zensical.toml")


def main() -> int:
    """Build it; the status is 1 if something leads nowhere."""
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        del os.environ[name]
    os.environ["RINGFENCE_LOG_LEVEL"] = "error"
    logs.configure()
    shutil.rmtree(BUILD, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="ringfence-docs-") as directory:
        Path(directory).chmod(0o711)  # the database runs as a user of its own
        written = {**sources.pages(), **asyncio.run(_reference(Path(directory)))}
    for name, text in written.items():
        path = BUILD / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if (pictures := sources.ROOT / "docs" / "images").exists():
        shutil.copytree(pictures, BUILD / "docs" / "images")
    shutil.copy(CONFIGURATION, BUILD)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=BUILD, capture_output=True, text=True
    )
    if built.returncode != 0:
        sys.stderr.write(built.stdout + built.stderr)
        return 1
    if found := links.wrong(BUILD / "site"):
        sys.stderr.write("\n".join([*found, ""]))
        return 1
    sys.stdout.write(f"Built {BUILD / 'site' / 'index.html'}. To search in it, have it served:\n")
    sys.stdout.write(f"  {sys.executable} -m http.server --bind 127.0.0.1 --directory {BUILD / 'site'}\n")
    return 0


async def _reference(directory: Path) -> dict[str, str]:
    """The pages that are written from the code, with a host to ask, which has a database of its own for that long."""
    async with Host(HostSettings(data_dir=directory / "data", port=0)) as host:
        return reference.pages(host)


if __name__ == "__main__":
    sys.exit(main())
