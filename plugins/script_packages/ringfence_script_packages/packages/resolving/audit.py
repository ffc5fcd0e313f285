"""Compares a lock with the vulnerabilities that registries know of.

Threat: advisories come from a registry: they may be endless, be about other packages, or hold what a terminal takes
for a command. Mechanism: pages have bounds, what is told is about what was asked, and texts are short and plain. Not
covered: a registry that keeps an advisory back. One that has none to tell is not taken for good news: it is named.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ringfence.bounded import cleaned
from ringfence.scripts.packages.lock import Ecosystem, Lock, PythonPackage

from ringfence_script_packages.packages.errors import PackagesError
from ringfence_script_packages.packages.resolving.client import RegistryClient, place_of
from ringfence_script_packages.packages.resolving.npm_ranges import UnreadableRangeError, lies_in
from ringfence_script_packages.packages.resolving.registries import Registry

MOST_FINDINGS = 1000
AT_ONCE = 6
_JSON = "application/json"
_SIMPLE = "/simple"


@dataclass(frozen=True, slots=True)
class Finding:
    """A vulnerability that a locked version has. `fixed` names versions without it, where the registry says so."""

    ecosystem: Ecosystem
    package: str
    version: str
    id: str
    title: str
    url: str | None = None
    severity: str | None = None
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotReachable:
    """No registry could say anything of the packages of an ecosystem, and why."""

    ecosystem: Ecosystem
    why: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found; who could not be asked; and of which packages (as `name version`) no registry knows anything."""

    findings: tuple[Finding, ...] = ()
    not_reachable: tuple[NotReachable, ...] = ()
    unknown: tuple[str, ...] = field(default=())


async def audit(lock: Lock, client: RegistryClient) -> Audit:
    """Ask the registries of a lock's packages for what is known of exactly these versions."""
    parts = [
        await ask(lock, client) for wanted, ask in ((lock.python, _python), (lock.node, _node)) if wanted
    ]
    findings = sorted(
        {finding for part in parts for finding in part.findings},
        key=lambda each: (each.ecosystem, each.package, each.version, each.id),
    )
    return Audit(
        tuple(findings[:MOST_FINDINGS]),
        tuple(each for part in parts for each in part.not_reachable),
        tuple(each for part in parts for each in part.unknown),
    )


async def _python(lock: Lock, client: RegistryClient) -> Audit:
    """By the page of each version, as PyPI has it (its JSON API: `vulnerabilities`)."""
    indexes = [each for each in client.registries.python if each.directory is None]
    if not indexes:
        return _nobody(Ecosystem.PYPI, "no index that can be asked is configured")
    free = asyncio.Semaphore(AT_ONCE)
    problems: list[PackagesError] = []
    packages = {(each.name, each.version): each for each in lock.python}

    async def ask(package: PythonPackage) -> tuple[Finding, ...] | None:
        async with free:
            for index in indexes:
                url = f"{index.url.removesuffix(_SIMPLE)}/pypi/{quote(package.name)}/{quote(package.version)}/json"
                try:
                    _, _, body = await client.page(url, accept=_JSON, package=package.name)
                except PackagesError as error:
                    problems.append(error)
                    continue
                found = await asyncio.to_thread(_of_pypi, body, package)
                if found is not None:
                    return found
            return None

    # One first: where nobody has such pages, they are not asked for hundreds of times.
    first, *others = packages.values()
    answers = {(first.name, first.version): await ask(first)}
    if others and answers[first.name, first.version] is None:
        second, *others = others
        answers[second.name, second.version] = await ask(second)
    if any(answer is not None for answer in answers.values()):
        rest = await asyncio.gather(*(ask(each) for each in others))
        answers.update(zip(((each.name, each.version) for each in others), rest, strict=True))
    known = {key: found for key, found in answers.items() if found is not None}
    if not known:
        why = problems[0].message if problems else "its pages do not tell of vulnerabilities"
        return _nobody(Ecosystem.PYPI, f"{place_of(indexes[0].url)} has no advisories: {why}")
    return Audit(
        tuple(finding for found in known.values() for finding in found),
        unknown=tuple(f"{name} {version}" for name, version in packages if (name, version) not in known),
    )


def _of_pypi(body: bytes, package: PythonPackage) -> tuple[Finding, ...] | None:
    """The vulnerabilities of a page; None if it tells of none at all, not even that there are none."""
    page = _document(body)
    told = page.get("vulnerabilities") if isinstance(page, dict) else None
    if not isinstance(told, list):
        return None
    return tuple(
        Finding(
            Ecosystem.PYPI,
            package.name,
            package.version,
            _text(each.get("id"), 100),
            _text(each.get("summary") or each.get("details"), 300),
            _link(each.get("link")),
            fixed=tuple(_text(version, 50) for version in _list(each.get("fixed_in"))[:20]),
        )
        for each in told[:MOST_FINDINGS]
        if isinstance(each, dict) and not each.get("withdrawn")
    )


async def _node(lock: Lock, client: RegistryClient) -> Audit:
    """By the endpoint that `npm audit` asks, for many packages at once."""
    asked: dict[Registry, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    nowhere = False
    for package in lock.node:
        registry = client.registries.npm_for(package.name)
        if registry is None:
            nowhere = True
        else:
            asked[registry][package.name].add(package.version)
    findings: list[Finding] = []
    lacking = [NotReachable(Ecosystem.NPM, "no registry of npm is configured")] if nowhere else []
    for registry, versions in asked.items():
        url = f"{registry.url}/-/npm/v1/security/advisories/bulk"
        content = json.dumps({name: sorted(found) for name, found in sorted(versions.items())}).encode()
        try:
            _, _, body = await client.page(url, accept=_JSON, method="POST", content=content)
        except PackagesError as error:
            lacking.append(
                NotReachable(Ecosystem.NPM, f"{place_of(registry.url)} has no advisories: {error.message}")
            )
            continue
        told = await asyncio.to_thread(_document, body)
        if not isinstance(told, dict):
            why = f"{place_of(registry.url)} has no advisories: its answer cannot be read"
            lacking.append(NotReachable(Ecosystem.NPM, why))
            continue
        findings += _of_npm(told, versions)
    return Audit(tuple(findings), tuple(lacking))


def _of_npm(told: Mapping[str, Any], versions: Mapping[str, Iterable[str]]) -> Iterable[Finding]:
    for name, advisories in told.items():
        for each in _list(advisories)[:MOST_FINDINGS]:
            if not isinstance(each, dict):
                continue
            for version in versions.get(name, ()):
                if _concerns(version, each.get("vulnerable_versions")):
                    yield Finding(
                        Ecosystem.NPM,
                        name,
                        version,
                        _text(each.get("id"), 100),
                        _text(each.get("title"), 300),
                        _link(each.get("url")),
                        _text(each.get("severity"), 20) or None,
                    )


def _concerns(version: str, versions: object) -> bool:
    """Whether an advisory is about a version; one that cannot be read is, as the registry has named it."""
    try:
        return lies_in(version, versions) if isinstance(versions, str) else True
    except UnreadableRangeError:
        return True


def _nobody(ecosystem: Ecosystem, why: str) -> Audit:
    return Audit(not_reachable=(NotReachable(ecosystem, why),))


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _list(told: object) -> list[Any]:
    return told if isinstance(told, list) else []


def _text(told: object, longest: int) -> str:
    """A registry's text in one line, without what a terminal takes for commands."""
    text = "" if told is None else str(told)[: longest * 4]
    plain = "".join(each if each.isprintable() else " " for each in text)
    return cleaned(" ".join(plain.split()), longest)


def _link(told: object) -> str | None:
    return _text(told, 500) if isinstance(told, str) and told.startswith("https://") else None
