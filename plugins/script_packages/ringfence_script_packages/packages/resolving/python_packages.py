"""Resolves packages of Python with uv, for all platforms at once."""

from __future__ import annotations

import asyncio
import re
import shlex
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import ValidationError
from ringfence.redaction import problems
from ringfence.scripts.packages.lock import Ecosystem, LockedFile, PythonPackage
from ringfence.scripts.packages.platform import Platform

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.needed import pythons_for
from ringfence_script_packages.packages.requirements import RequirementError, Wanted
from ringfence_script_packages.packages.resolving.client import RegistryClient
from ringfence_script_packages.packages.resolving.fetching import FileFetcher
from ringfence_script_packages.packages.resolving.gateway import Gateway
from ringfence_script_packages.packages.resolving.index_pages import IndexFile
from ringfence_script_packages.packages.resolving.programs import uv_program
from ringfence_script_packages.packages.resolving.sandboxed import run_resolver, shown

_PROJECT = "[tool.uv]\nenvironments = [\"sys_platform == 'linux'\"]\n"
"""Satellites are Linux. Without this, what only Windows needs would be locked as well."""
_LOCK = "pylock.toml"


async def resolve_python(
    requirements: Sequence[str],
    platforms: Sequence[Platform],
    client: RegistryClient,
    fetcher: FileFetcher,
    asked: Callable[[str], object],
    *,
    previous: Sequence[PythonPackage] = (),
    requires_python: str | None = None,
) -> tuple[tuple[PythonPackage, ...], str | None]:
    """The packages that meet these requirements, and for which versions of Python they are.

    The versions of `previous` are kept where they fit, and the newest are taken else. Where not every Python of the
    fleet can have them, the oldest ones are left out.

    Raises:
        PackagesError: saying which package is in the way, and why.
    """
    lines = "".join(f"{_line(text)}\n" for text in requirements)
    kept = _previous_lock(previous)
    versions = sorted({each.minor for each in pythons_for(requires_python, platforms)})
    program = await asyncio.to_thread(uv_program)
    async with Gateway(client, asked) as gateway, shown((program,)) as places:
        for version in versions:
            result = await run_resolver(
                _script(places[program], gateway.python, version, kept),
                name="uv",
                port=gateway.port,
                paths=places.values(),
                given=lines,
            )
            if result.exit_code == 0:
                packages, requires = await _read(result.stdout, gateway, fetcher)
                return packages, _both(requires, requires_python)
            failure = _failure(gateway, result.stderr)
            if failure.why is not Why.CONFLICT:
                break
        raise failure


def _both(one: str | None, other: str | None) -> str | None:
    """The versions that are in both ranges."""
    each = {part for text in (one, other) if text for part in map(str, SpecifierSet(text))}
    return ",".join(sorted(each)) or None


def _line(text: str) -> str:
    try:
        return Wanted.parse(Ecosystem.PYPI, text).text
    except RequirementError as error:
        raise PackagesError(Why.NOT_ALLOWED, str(error)) from None


def _previous_lock(packages: Sequence[PythonPackage]) -> str:
    """A `pylock.toml` of which uv takes the versions, and finds everything else out anew."""
    # A name or a version has no character that would have to be quoted.
    entries = "".join(
        f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        for name, version in sorted({(each.name, each.version) for each in packages})
    )
    return f'lock-version = "1.0"\ncreated-by = "ringfence"\n{entries or "packages = []"}\n'


def _script(program: str, index: str, version: tuple[int, int], kept: str) -> str:
    # The variables hold what must not stand among arguments, which other users of the machine can see.
    return f"""
export UV_DEFAULT_INDEX={shlex.quote(index)} UV_NO_CACHE=1 UV_HTTP_RETRIES=0 UV_PYTHON_DOWNLOADS=never
export XDG_CONFIG_DIRS=/nonexistent NO_PROXY=127.0.0.1 UV_HTTP_TIMEOUT=120
printf %s {shlex.quote(_PROJECT)} > pyproject.toml
printf %s {shlex.quote(kept)} > {_LOCK}
{shlex.quote(program)} pip compile --quiet --universal --only-binary :all: --no-header --no-sources \\
  --python-version {version[0]}.{version[1]} \\
  --format pylock.toml --output-file {_LOCK} - || exit 1
cat {_LOCK}
"""


async def _read(
    text: str, gateway: Gateway, fetcher: FileFetcher
) -> tuple[tuple[PythonPackage, ...], str | None]:
    try:
        locked = await asyncio.to_thread(tomllib.loads, text)
        entries = [*_wheels(locked, gateway)]
        async with asyncio.TaskGroup() as group:
            tasks = [
                (told, [group.create_task(_measured(file, gateway, fetcher)) for file in files])
                for told, files in entries
            ]
        packages = tuple(
            PythonPackage(
                name=canonicalize_name(str(told["name"])),
                version=str(told["version"]),
                marker=told.get("marker"),
                files=tuple(task.result() for task in files),
            )
            for told, files in tasks
        )
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    except ValidationError as error:
        raise PackagesError(
            Why.FAILED, f"what the registry offers cannot be locked: {problems(error)}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackagesError(
            Why.FAILED, f"uv answers what is not understood: {type(error).__name__}"
        ) from error
    return packages, locked.get("requires-python")


def _wheels(locked: dict[str, Any], gateway: Gateway) -> list[tuple[dict[str, Any], list[IndexFile]]]:
    """Each package of the answer, with the registries' files that it stands for."""
    found = []
    for told in locked.get("packages", []):
        files = [gateway.file_at(str(wheel.get("url"))) for wheel in told.get("wheels", [])]
        if not files or None in files:
            raise PackagesError(
                Why.NO_FILE,
                gateway.lacking.get(str(told.get("name"))) or "it does not come from a registry as a wheel",
                package=str(told.get("name")),
            )
        found.append((told, [file for file in files if file is not None]))
    return found


async def _measured(file: IndexFile, gateway: Gateway, fetcher: FileFetcher) -> LockedFile:
    """The file with its hash and size; one whose index does not tell both is read for that."""
    sha256, size = file.sha256, file.size
    if sha256 is None or size is None:
        measured = gateway.measured.get(file.url) or await fetcher.measure(file.url, file.filename)
        if sha256 is not None and sha256 != measured.sha256:
            raise PackagesError(
                Why.HASH_DIFFERS,
                "the file is not what its index says: its SHA-256 differs",
                package=file.filename,
                hint="try again; if it stays so, ask whoever runs the registry",
            )
        sha256, size = measured.sha256, measured.size
    return LockedFile(filename=file.filename, sha256=sha256, size=size, url=file.url)


def _failure(gateway: Gateway, said: str) -> PackagesError:
    """Why uv found nothing: what the registries did not give, if anything, and else what it says itself."""
    for error in gateway.problems.values():
        if error.why is not Why.NOT_FOUND:
            return error
    text = " ".join(gateway.told(said).split())
    named = [
        name for name in (*gateway.lacking, *gateway.problems) if re.search(rf"\b{re.escape(name)}\b", text)
    ]
    for name in named:
        if name in gateway.lacking:
            return PackagesError(
                Why.NO_FILE,
                f"it has no wheel for Linux: {gateway.lacking[name]}",
                package=name,
                hint="choose another package, or serve wheels of it from a registry of your own",
            )
        return gateway.problems[name]
    return PackagesError(
        Why.CONFLICT,
        f"no versions fit together: {text.removeprefix('error: ')}" if text else "no versions fit together",
        hint="loosen the ranges of versions, or put the packages into different sets",
    )
