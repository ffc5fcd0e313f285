"""A lock is compared with what registries know of vulnerabilities, and silence is not taken for good news."""

from __future__ import annotations

import json

import pytest
from ringfence.scripts.packages.lock import Ecosystem, Lock, LockedFile, NodePackage, PythonPackage
from ringfence_script_packages.packages.resolving.npm_ranges import UnreadableRangeError, lies_in

from tests.script_packages.resolving.conftest import packages_of, settings_for
from tests.script_packages.resolving.registry import Answer, Registry, wheel_name

BULK = "/npm/-/npm/v1/security/advisories/bulk"


def python_lock(*packages: tuple[str, str]) -> Lock:
    return Lock(
        python=tuple(
            PythonPackage(name=name, version=version, files=(_file(wheel_name(name, version)),))
            for name, version in packages
        )
    )


def node_lock(*packages: tuple[str, str, str]) -> Lock:
    return Lock(
        node=tuple(
            NodePackage(path=path, name=name, version=version, file=_file(f"{name}-{version}.tgz"))
            for path, name, version in packages
        )
    )


def _file(name: str) -> LockedFile:
    return LockedFile(filename=name, sha256="0" * 64, size=1)


def tells(registry: Registry, name: str, version: str, *vulnerabilities: object) -> None:
    page = json.dumps({"info": {}, "vulnerabilities": list(vulnerabilities)}).encode()
    registry.answers[f"/pypi/{name}/{version}/json"] = Answer(page, kind="application/json")


async def test_a_vulnerable_version_of_python_is_found_with_what_is_known_of_it(registry: Registry) -> None:
    told = {
        "id": "PYSEC-1",
        "summary": "It\nspills \x1b[2Jhot tea",
        "link": "https://x.example/1",
        "fixed_in": ["1.1"],
    }
    tells(registry, "tea", "1.0", told, {**told, "id": "PYSEC-2", "withdrawn": "2026-01-01T00:00:00Z"})
    tells(registry, "water", "1.0")
    lock = python_lock(("tea", "1.0"), ("water", "1.0"), ("own", "1.0"))
    found = await packages_of(settings_for(registry)).audit(lock)
    (finding,) = found.findings
    assert (finding.package, finding.version, finding.id, finding.fixed) == (
        "tea",
        "1.0",
        "PYSEC-1",
        ("1.1",),
    )
    assert finding.title == "It spills [2Jhot tea"
    assert found.unknown == ("own 1.0",)
    assert found.not_reachable == ()


async def test_an_index_without_advisories_is_named_and_not_asked_for_every_package(
    registry: Registry,
) -> None:
    lock = python_lock(*((f"tea{number}", "1.0") for number in range(30)))
    found = await packages_of(settings_for(registry)).audit(lock)
    assert [each.ecosystem for each in found.not_reachable] == [Ecosystem.PYPI]
    assert "has no advisories" in found.not_reachable[0].why
    assert len(registry.requests) == 2


@pytest.mark.parametrize("body", [b"[]", b"{}", b"<html>", b"[" * 100_000, b'{"vulnerabilities": {}}'])
async def test_a_page_that_tells_of_no_advisories_at_all_is_no_good_news(
    registry: Registry, body: bytes
) -> None:
    registry.answers["/pypi/tea/1.0/json"] = Answer(body)
    found = await packages_of(settings_for(registry)).audit(python_lock(("tea", "1.0")))
    assert len(found.not_reachable) == 1


async def test_a_vulnerable_version_of_npm_is_found_and_no_other(registry: Registry) -> None:
    advisory = {
        "id": 7,
        "title": "It spills",
        "severity": "high",
        "url": "javascript:alert(1)",
        "vulnerable_versions": "<1.2.3",
    }
    body = json.dumps({"tea": [advisory], "never-asked": [advisory], "water": "nonsense"}).encode()
    registry.answers[BULK] = Answer(body, kind="application/json")
    lock = node_lock(
        ("node_modules/tea", "tea", "1.2.3"),
        ("node_modules/pot/node_modules/tea", "tea", "1.2.2"),
        ("node_modules/water", "water", "1.0.0"),
    )
    found = await packages_of(settings_for(registry)).audit(lock)
    (finding,) = found.findings
    assert (finding.package, finding.version, finding.id, finding.severity) == ("tea", "1.2.2", "7", "high")
    assert finding.url is None
    (request,) = registry.asked_for(BULK)
    assert json.loads(request.body) == {"tea": ["1.2.2", "1.2.3"], "water": ["1.0.0"]}


async def test_a_registry_of_npm_without_advisories_is_named(registry: Registry) -> None:
    found = await packages_of(settings_for(registry)).audit(node_lock(("node_modules/tea", "tea", "1.0.0")))
    assert [each.ecosystem for each in found.not_reachable] == [Ecosystem.NPM]
    registry.answers[BULK] = Answer(b"")
    found = await packages_of(settings_for(registry)).audit(node_lock(("node_modules/tea", "tea", "1.0.0")))
    assert "cannot be read" in found.not_reachable[0].why


async def test_of_an_empty_lock_nobody_is_asked(registry: Registry) -> None:
    found = await packages_of(settings_for(registry)).audit(Lock())
    assert (found.findings, found.not_reachable, registry.requests) == ((), (), [])


@pytest.mark.parametrize(
    ("version", "versions", "lies"),
    [
        ("1.2.2", "<1.2.3", True),
        ("1.2.3", "<1.2.3", False),
        ("1.2.3-beta.2", "<1.2.3", True),
        ("1.2.3-beta.2", "<1.2.3-beta.10", True),
        ("1.2.3-beta.2", "<1.2.3-beta", False),
        ("1.2.3-1", "<1.2.3-alpha", True),
        ("2.0.5", "<1.2.3 || >=2.0.0 <2.1.0", True),
        ("2.1.0", "<1.2.3 || >=2.0.0 <2.1.0", False),
        ("2.1.0", ">= 2.0.0, <= 2.1.0", True),
        ("3.0.0", "=3.0.0", True),
        ("3.0.0", "3.0.0", True),
        ("10.0.0", ">9.9.9", True),
        ("1.0.0+build", "1.0.0", True),
        ("0.0.1", "*", True),
        ("0.0.1", "", True),
    ],
)
def test_versions_of_npm_are_compared_as_semver_has_it(version: str, versions: str, lies: bool) -> None:
    assert lies_in(version, versions) is lies


@pytest.mark.parametrize(("version", "versions"), [("1.0.0", "^1.0.0"), ("1.0.0", "latest"), ("one", "*")])
def test_what_cannot_be_read_is_said_to_be_unreadable(version: str, versions: str) -> None:
    with pytest.raises(UnreadableRangeError):
        lies_in(version, versions)
