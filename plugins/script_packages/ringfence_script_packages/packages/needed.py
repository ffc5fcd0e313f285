"""Which files of a lock the known platforms need, and whether a set may be so large. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from ringfence.scripts.packages.lock import Lock, LockedFile, NoFit
from ringfence.scripts.packages.platform import Platform, PythonPlatform

from ringfence_script_packages.packages.errors import PackagesError, Why

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class NeededFile:
    """A file, and the package that it is of."""

    package: str
    file: LockedFile


@dataclass(frozen=True, slots=True)
class Needed:
    """The files that platforms need, each once; and the platforms that cannot have the lock, with the reason."""

    files: tuple[NeededFile, ...]
    misfits: tuple[tuple[Platform, NoFit], ...]

    @property
    def size(self) -> int:
        """How many bytes they have together."""
        return sum(one.file.size for one in self.files)

    @property
    def digests(self) -> frozenset[str]:
        """What they are stored by."""
        return frozenset(one.file.sha256 for one in self.files)


def needed(lock: Lock, platforms: Sequence[Platform]) -> Needed:
    """What these platforms need of a lock."""
    files: dict[str, NeededFile] = {}
    misfits: list[tuple[Platform, NoFit]] = []
    for platform in platforms:
        wheels, tarballs = lock.wheels_for(platform), lock.tarballs_for(platform)
        if isinstance(wheels, NoFit):
            misfits.append((platform, wheels))
        elif isinstance(tarballs, NoFit):
            misfits.append((platform, tarballs))
        else:
            for package, file in wheels:
                files.setdefault(file.sha256, NeededFile(f"{package.name} {package.version}", file))
            for one in tarballs:
                files.setdefault(one.file.sha256, NeededFile(f"{one.name} {one.version}", one.file))
    return Needed(tuple(files.values()), tuple(misfits))


def check_fits_somewhere(found: Needed, platforms: Sequence[Platform]) -> None:
    """Raise `PackagesError` if there are platforms, and the lock is for none of them."""
    if platforms and len(found.misfits) == len(platforms):
        _, misfit = found.misfits[0]
        raise PackagesError(
            Why.NO_FILE,
            misfit.reason,
            package=misfit.package,
            hint="Allow another version of it, or a package that is made for this platform.",
        )


def check_size(found: Needed, most: int) -> None:
    """Raise `PackagesError` if the files of a set are more than `most` bytes."""
    if found.size <= most:
        return
    largest = max(found.files, key=lambda one: one.file.size)
    raise PackagesError(
        Why.TOO_LARGE,
        f"the set has {found.size / MIB:.1f} MiB, and may have {most / MIB:.0f} MiB; the largest file, "
        f"{largest.file.filename}, has {largest.file.size / MIB:.1f} MiB",
        package=largest.package,
        hint="Remove a package from the set, split it into two sets, or raise "
        "RINGFENCE_SCRIPT_PACKAGES_MAX_SET_MIB.",
    )


def pythons_for(versions: str | None, platforms: Sequence[Platform]) -> tuple[PythonPlatform, ...]:
    """The Pythons of the fleet that are in a range of versions. Raises `PackagesError` if there is none."""
    pythons = [each.python for each in platforms if each.python is not None]
    if not pythons:
        raise PackagesError(
            Why.NO_FILE,
            "no machine of the fleet runs Python",
            hint="install python3 where scripts are to run",
        )
    found = tuple(each for each in pythons if versions is None or each.is_in(SpecifierSet(versions)))
    if not found:
        there = ", ".join(sorted({each.version for each in pythons}))
        raise PackagesError(
            Why.NO_FILE,
            f"the script is for Python {versions}, and no machine of the fleet has that: there is {there}",
            hint="Install such a Python where the script is to run, or change requires-python in its text.",
        )
    return found
