"""Virtual environments that hold a built wheel and exactly what it requires, made without any network.

The wheel is installed by pip. What it requires is linked in from the environment that the tests run in, following
the wheel's own metadata, so that a requirement that it does not declare is missing here as it would be for a user.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    directory: Path

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def ringfence(self) -> Path:
        """The command that the wheel installs."""
        return self.directory / "bin" / "ringfence"

    def site_packages(self) -> Path:
        [path] = self.directory.glob("lib/python3*/site-packages")
        return path

    def run(self, *arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment, with a bare process environment."""
        return subprocess.run(
            [str(argument) for argument in arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.directory,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environ},
        )


def build_wheel(project: Path, into: Path) -> Path:
    """Build the wheel of `project`, with the build backend of the environment that the tests run in."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(into), str(project)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = into.glob("*.whl")
    return wheel


def make_environment(directory: Path, wheel: Path, extras: Iterable[str] = ()) -> Environment:
    """An environment with `wheel`, `extras` of it, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    environment = Environment(directory)
    install(environment, wheel, extras)
    return environment


def install(environment: Environment, wheel: Path, extras: Iterable[str] = ()) -> None:
    """Add `wheel`, and what `extras` of it require and the environment does not hold yet."""
    pip = [sys.executable, "-m", "pip", "--python", str(environment.python), "--disable-pip-version-check"]
    # What is run of it is compiled then.
    how = ("--quiet", "--no-index", "--no-deps", "--no-compile")
    subprocess.run([*pip, "install", *how, str(wheel)], check=True)
    site = environment.site_packages()
    name, version, *_ = wheel.name.split("-")
    installed = Distribution.at(site / f"{name}-{version}.dist-info")
    held = {canonicalize_name(one.name) for one in distributions(path=[str(site)])}
    for required_name, required in _closure(installed, frozenset(extras), {}).items():
        if required_name not in held:
            _link(required, site)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)


def _closure(
    of: Distribution, extras: frozenset[str], found: dict[str, Distribution]
) -> dict[str, Distribution]:
    """Everything that `of` requires, and what that requires, by name."""
    for requirement in _required(of, extras):
        name = canonicalize_name(requirement.name)
        known = name in found
        found.setdefault(name, distribution(requirement.name))
        if not known or requirement.extras:
            _closure(found[name], frozenset(requirement.extras), found)
    return found


def _required(of: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in of.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _link(required: Distribution, site: Path) -> None:
    """Link each file or folder that belongs to `required` and lies at the top of its environment."""
    tops = {Path(file).parts[0] for file in required.files or ()} - {"..", "__pycache__"}
    for top in tops:
        source = Path(str(required.locate_file(top)))
        target = site / top
        if not target.exists():
            target.symlink_to(source)
