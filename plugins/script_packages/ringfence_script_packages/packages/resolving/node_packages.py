"""Resolves packages of npm with npm itself: every package at its place beneath `node_modules`."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from ringfence.redaction import problems
from ringfence.scripts.packages.lock import Ecosystem, LockedFile, NodePackage
from ringfence.scripts.packages.platform import NodePlatform, Platform

from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.requirements import RequirementError, Wanted
from ringfence_script_packages.packages.resolving.client import RegistryClient
from ringfence_script_packages.packages.resolving.fetching import FileFetcher
from ringfence_script_packages.packages.resolving.gateway import Gateway
from ringfence_script_packages.packages.resolving.npm_lockfile import package_lock
from ringfence_script_packages.packages.resolving.programs import node_and_npm
from ringfence_script_packages.packages.resolving.sandboxed import moved, run_resolver, shown

_UNKNOWN = "0" * 64
"""In place of a SHA-256 that is only known once the file was read."""

_STRONG = re.compile(r"sha512-[A-Za-z0-9+/=]{88}")
_WEAK = re.compile(r"sha(1|256|384)-[A-Za-z0-9+/=]+")


@dataclass(frozen=True, slots=True)
class _Found:
    """A package of npm's answer, whose file is still to be read, and what npm says that it hashes to."""

    package: NodePackage
    hash: str


async def resolve_node(
    requirements: Sequence[str],
    platforms: Sequence[Platform],
    client: RegistryClient,
    fetcher: FileFetcher,
    asked: Callable[[str], object],
    *,
    previous: Sequence[NodePackage] = (),
) -> tuple[NodePackage, ...]:
    """The packages that meet these requirements, with those that only some platforms of the fleet take.

    The versions of `previous` are kept where they fit, and the newest are taken else. npm tells no SHA-256, so each
    file that is not of `previous` is read once for it.

    Raises:
        PackagesError: saying which package is in the way, and why.
    """
    wanted = dict(_wanted(text) for text in requirements)
    nodes = [each.node for each in platforms if each.node is not None]
    if not nodes:
        raise PackagesError(
            Why.NO_FILE,
            "no machine of the fleet runs Node.js",
            hint="install nodejs where scripts are to run",
        )
    npm = await asyncio.to_thread(node_and_npm)
    async with Gateway(client, asked) as gateway, shown(npm.directories) as places:
        script = _script(moved(npm.node, places), moved(npm.npm, places), gateway.npm)
        package = {"private": True, "dependencies": wanted}
        kept = await package_lock(previous, gateway.npm_page)
        for lock in (kept, None) if kept is not None else (None,):
            result = await run_resolver(
                script,
                name="npm",
                port=gateway.port,
                paths=places.values(),
                given=f"{json.dumps(package)}\n{json.dumps(lock) if lock else ''}",
            )
            if result.exit_code == 0:
                break
            failure = _failure(gateway, f"{result.stdout}\n{result.stderr}")
            # What npm finds in a lock it moves less than it would have to.
            if failure.why is not Why.CONFLICT:
                raise failure
        else:
            raise failure
        found = await asyncio.to_thread(_read, result.stdout, gateway)
    found = _fitting(found, nodes)
    files = {each.integrity: each.file for each in previous if each.integrity is not None}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_measured(each, files, fetcher, asked)) for each in found]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return tuple(task.result() for task in tasks)


def _wanted(text: str) -> tuple[str, str]:
    try:
        wanted = Wanted.parse(Ecosystem.NPM, text)
    except RequirementError as error:
        raise PackagesError(Why.FAILED, str(error)) from None
    return wanted.name, wanted.specifier or "*"


def _script(node: str, npm: str, registry: str) -> str:
    # The settings are in a file, as others can see arguments; npm looks for no other one than these two.
    settings = {
        "registry": registry,
        "replace-registry-host": "never",
        "omit-lockfile-registry-resolved": "false",
        "ignore-scripts": "true",
        "audit": "false",
        "fund": "false",
        "update-notifier": "false",
        "fetch-retries": "0",
        "fetch-timeout": "120000",
        "progress": "false",
        "loglevel": "error",
        "noproxy": "127.0.0.1",
        "cache": "/tmp/scratch/.npm",  # noqa: S108 - inside the sandbox
    }
    lines = "".join(f"{name}={value}\n" for name, value in settings.items())
    return f"""
mkdir work && cd work || exit 1
IFS= read -r package
printf %s "$package" > package.json
cat > package-lock.json
[ -s package-lock.json ] || rm package-lock.json
printf %s {shlex.quote(lines)} > ../npmrc
export npm_config_userconfig="$PWD/../npmrc" npm_config_globalconfig=/nonexistent/npmrc
{shlex.quote(node)} {shlex.quote(npm)} install --package-lock-only --ignore-scripts >&2 || exit 1
cat package-lock.json
"""


def _read(text: str, gateway: Gateway) -> list[_Found]:
    """What npm has written (package-lock.json, version 3)."""
    try:
        places: Mapping[str, Any] = json.loads(text)["packages"]
        return [*_entries(places, gateway)]
    except ValidationError as error:
        raise PackagesError(
            Why.FAILED, f"what the registry offers cannot be locked: {problems(error)}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackagesError(
            Why.FAILED, f"npm answers what is not understood: {type(error).__name__}"
        ) from error


def _entries(places: Mapping[str, Any], gateway: Gateway) -> Iterator[_Found]:
    for path, told in places.items():
        # The first is what asks for all others; some come within the file of the package that they are beneath.
        if path == "" or told.get("inBundle"):
            continue
        name = told.get("name") or path.rpartition("node_modules/")[2]
        file = gateway.file_at(str(told.get("resolved")))
        if file is None or told.get("link"):
            raise PackagesError(
                Why.NOT_ALLOWED,
                "a package needs it from elsewhere than a registry",
                package=name,
                hint="choose another package: files, repositories and addresses cannot be locked",
            )
        limits = gateway.limits.get(file.url, {})
        hashes = str(told.get("integrity", "")).split()
        strong = next((each for each in hashes if _STRONG.fullmatch(each)), None)
        known = strong or next((each for each in hashes if _WEAK.fullmatch(each)), None)
        if known is None:
            raise PackagesError(
                Why.NO_FILE,
                "its registry tells no hash of it",
                package=name,
                hint="ask whoever runs the registry",
            )
        yield _Found(
            NodePackage(
                path=path,
                name=name,
                version=told["version"],
                file=LockedFile(
                    filename=f"{name.replace('/', '-')}-{told['version']}.tgz",
                    sha256=_UNKNOWN,
                    size=0,
                    url=file.url,
                ),
                os=_words(limits.get("os")),
                cpu=_words(limits.get("cpu")),
                libc=_words(limits.get("libc")),
                optional=bool(told.get("optional")),
                integrity=strong,
            ),
            known,
        )


def _words(told: Any) -> tuple[Any, ...]:
    """What npm has as one word or as a list of words."""
    return (told,) if isinstance(told, str) else tuple(told or ())


def _fitting(found: Sequence[_Found], nodes: Sequence[NodePlatform]) -> list[_Found]:
    """What some platform of the fleet takes. What is optional is left out, with all beneath it."""
    kept, left_out = [], "\0"
    for each in sorted(found, key=lambda one: one.package.path):
        package = each.package
        if package.path.startswith(f"{left_out}/"):
            continue
        misfits = [package.misfit(node) for node in nodes]
        if all(misfits):
            if not package.optional:
                raise PackagesError(
                    Why.NO_FILE, f"it fits no machine of the fleet: {misfits[0]}", package=package.name
                )
            left_out = package.path
            continue
        kept.append(each)
    return kept


async def _measured(
    found: _Found,
    known: Mapping[str, LockedFile],
    fetcher: FileFetcher,
    asked: Callable[[str], object],
) -> NodePackage:
    package = found.package
    same = known.get(package.integrity or "")
    if same is not None:
        file = package.file.model_copy(update={"sha256": same.sha256, "size": same.size})
        return package.model_copy(update={"file": file})
    asked(package.name)
    measured = await fetcher.measure(str(package.file.url), package.name, integrity=found.hash)
    file = package.file.model_copy(update={"sha256": measured.sha256, "size": measured.size})
    return package.model_copy(update={"file": file})


def _failure(gateway: Gateway, said: str) -> PackagesError:
    """Why npm found nothing: what the registries did not give, if anything, and else what it says itself."""
    for error in sorted(gateway.problems.values(), key=lambda each: each.why is Why.NOT_FOUND):
        return error
    lines = (re.sub(r"^npm (error|ERR!)", "", line) for line in gateway.told(said).splitlines())
    # The file that it speaks of last is gone.
    text = " ".join(" ".join(line for line in lines if "complete log of this run" not in line).split())
    if not re.search(r"\b(ETARGET|ERESOLVE)\b", text):
        return PackagesError(Why.FAILED, f"npm has failed: {text}")
    return PackagesError(
        Why.CONFLICT,
        f"no versions fit together: {text}",
        hint="loosen the ranges of versions, or put the packages into different sets",
    )
