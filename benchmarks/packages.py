"""What a run costs that has a tree of packages, beside one that has none; they take turns, in one process.

The tree has 40 MiB in 2,000 files, of which `import` reads one module. `cold` makes a sandbox for the run, and `warm`
takes one that waits. Also told is what it takes to make the tree, once for a lock.

Usage: python -m benchmarks.packages [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import os
import statistics
import tempfile
import time
import zipfile
from base64 import urlsafe_b64encode
from dataclasses import replace
from pathlib import Path

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.sandbox.capabilities.probe import probe
from ringfence.scripts import (
    NotReady,
    PackageTree,
    RunnerSettings,
    ScriptKind,
    ScriptRequest,
    set_package_provider,
)
from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.lock import Lock, LockedFile, PythonPackage
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.trees import Trees
from ringfence.scripts.running.runner import Runner

from benchmarks.runs import until_ready

FILES, FILE_BYTES = 2000, 20 * 1024
SNAPSHOT = PolicySnapshot(DEFAULT_POLICY)
NOTHING = ScriptRequest(ScriptKind.PYTHON, "pass")
SUBJECTS = {
    "no packages": NOTHING,
    "a tree": replace(NOTHING, packages="large"),
    "a tree, import": ScriptRequest(ScriptKind.PYTHON, "import large.m1", packages="large"),
}


def wheel() -> bytes:
    """A wheel whose files do not get smaller by being packed."""
    info = "large-1.0.dist-info"
    files = {"large/__init__.py": b"", "large/m1.py": b"VALUE = 1\n"}
    files |= {f"large/data{number}": os.urandom(FILE_BYTES) for number in range(FILES)}
    files[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: large\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: benchmark\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    rows = [
        f"{path},sha256={urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')},{len(content)}"
        for path, content in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return out.getvalue()


def make(directory: Path) -> float:
    """Have this process answer for a tree of it, and the seconds that it took to make."""
    content = wheel()
    file = LockedFile(
        filename="large-1.0-py3-none-any.whl", sha256=hashlib.sha256(content).hexdigest(), size=len(content)
    )
    lock = Lock(python=(PythonPackage(name="large", version="1.0", files=(file,)),))
    blobs = BlobDirectory(directory / "blobs")
    with blobs.receiving(file) as arriving:
        arriving.write(content)
        arriving.finish()
    trees, platform = Trees(directory, blobs), Platform.of(probe())
    begun = time.perf_counter()
    trees.make(lock, platform)
    took = time.perf_counter() - begun

    async def provide(name: str) -> PackageTree | NotReady | None:
        pin = None if name == "default" else trees.pin(lock.hash, platform)
        return None if pin is None else PackageTree(name, lock.hash, pin)

    set_package_provider(provide)
    return took


async def measured(rounds: int) -> dict[tuple[str, str], list[float]]:
    """The milliseconds of each run, by runner and subject."""
    took: dict[tuple[str, str], list[float]] = {}
    runners = {
        how: Runner(RunnerSettings(max_concurrent_runs=4, warm_sandboxes=waiting))
        for how, waiting in (("cold", 0), ("warm", 4))
    }
    for number in range(rounds + 3):
        for how, runner in runners.items():
            for subject, request in SUBJECTS.items():
                if how == "warm":
                    await until_ready()
                begun = time.perf_counter()
                result = await runner.run(SNAPSHOT, request)
                milliseconds = (time.perf_counter() - begun) * 1000
                if result.exit_code != 0:
                    raise SystemExit(f"{subject}: {result.stderr or result.sandbox.downgrades}")
                if number >= 3:
                    took.setdefault((how, subject), []).append(milliseconds)
    for runner in runners.values():
        runner.pool.clear()
    return took


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        os.chmod(made, 0o755)
        print(f"to make the tree: {make(Path(made)):.2f} s")
        took = asyncio.run(measured(rounds))
    for how in ("cold", "warm"):
        base = statistics.median(took[how, "no packages"])
        for subject in SUBJECTS:
            median = statistics.median(took[how, subject])
            print(f"{how}, {subject}: {median:.1f} ms ({median / base:.2f} of none)")


if __name__ == "__main__":
    main()
