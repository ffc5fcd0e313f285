"""What runs on this instance import: the tree of their set's lock, made from what is stored, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ringfence.host import Host
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, run
from ringfence.scripts.packages.lock import LockedFile
from ringfence.testing import RunHost, client

from tests.packages.archives import wheel
from tests.primitives import requires
from tests.script_packages.packages.conftest import ENTRIES, SETS, Packages
from tests.script_packages.packages.registry import Registry
from tests.waiting import until, until_it

pytestmark = requires("user namespaces")


def wheel_of(name: str, version: str) -> bytes:
    return wheel(name, {f"{name}/__init__.py": f"version = {version!r}\n"}, version=version)


class Wheels(Registry):
    """A registry of wheels that can be unpacked."""

    def file(self, name: str, version: str, size: int) -> LockedFile:
        content = wheel_of(name, version)
        return LockedFile(
            filename=f"{name}-{version}-py3-none-any.whl",
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )

    async def fetch(self, file: LockedFile) -> AsyncIterator[bytes]:
        self.fetched.append(file.filename)
        await self.may_fetch.wait()
        name, version = file.filename.split("-")[:2]
        yield wheel_of(name, version)


@pytest.fixture
def registry() -> Registry:
    return Wheels({"alpha": [("1.0", 0), ("2.0", 0)], "beta": [("1.0", 0)]})


@pytest.fixture
async def host(run_host: RunHost, open_directory: Path) -> Host:
    """A host whose files the users of runs can reach."""
    return await run_host(data_dir=open_directory / "data")


async def imported(packages: str | None = None, name: str = "alpha") -> RunResult:
    source = f"import {name}\nprint({name}.version)\n"
    return await run(ScriptRequest(ScriptKind.PYTHON, source, timeout_ms=60_000, packages=packages))


def refusal(result: RunResult) -> str:
    """Why a run did not take place."""
    if result.exit_code != -1:
        return ""
    return "; ".join(f"{one.layer}: {one.reason}" for one in result.sandbox.downgrades)


async def until_imported(version: str, packages: str | None = None) -> RunResult:
    """The result of a run that imports this version."""

    async def look() -> RunResult | None:
        result = await imported(packages)
        return result if result.stdout == f"{version}\n" else None

    found = await until_it(look, f"a run imports {version}")
    assert found is not None
    return found


async def test_a_run_imports_what_its_set_has_and_says_which_lock_that_was(packages: Packages) -> None:
    await packages.allow("alpha")
    await packages.allow("alpha<2", set="old")
    lock = (await packages.install())["lockHash"]
    old = (await packages.install("old"))["lockHash"]
    first = await until_imported("2.0")
    second = await until_imported("1.0", "old")
    assert first.packages is not None
    assert second.packages is not None
    assert (first.packages.set, first.packages.lock) == ("default", lock)
    assert (second.packages.set, second.packages.lock) == ("old", old)


async def test_a_new_lock_takes_the_place_of_the_old_one_and_a_deleted_set_is_refused(
    packages: Packages,
) -> None:
    await packages.allow("alpha<2", set="web")
    await packages.install("web")
    await until_imported("1.0", "web")
    await packages.allow("alpha", set="web")
    await packages.install("web", upgrade=True)
    await until_imported("2.0", "web")
    await packages.http.delete(f"{SETS}/web")

    async def refused() -> bool:
        result = await imported("web")
        return "there is no set of packages 'web'" in refusal(result)

    await until_it(refused, "the run is refused")


async def test_a_set_that_has_nothing_any_more_is_like_none(packages: Packages) -> None:
    await packages.allow("alpha")
    await packages.install()
    await until_imported("2.0")
    await packages.http.delete(f"{ENTRIES}?name=alpha")
    await packages.install()

    async def gone() -> bool:
        result = await run(ScriptRequest(ScriptKind.PYTHON, "print(1)"))
        return (result.stdout, result.packages) == ("1\n", None)

    await until_it(gone, "a run has no packages")


@pytest.mark.parametrize(
    ("allowed", "why"),
    [
        ("alpha", "the set web was never installed"),
        ("nosuch", "could not be installed: nosuch: the registry"),
    ],
)
async def test_a_set_that_is_not_there_is_a_refusal_that_says_why(
    allowed: str, why: str, packages: Packages
) -> None:
    await packages.allow(allowed, set="web")
    if allowed == "nosuch":
        await packages.install("web")
    result = await imported("web")
    assert "packages are not ready here: " in refusal(result)
    assert why in refusal(result)


async def test_scripts_that_name_no_set_run_as_ever_while_nobody_has_made_one(host: Host) -> None:
    result = await run(ScriptRequest(ScriptKind.PYTHON, "print(1)"))
    assert (result.stdout, result.packages) == ("1\n", None)


async def test_an_instance_that_starts_has_the_sets_before_anybody_asks(
    run_host: RunHost, open_directory: Path, registry: Registry
) -> None:
    first = await run_host(data_dir=open_directory / "data")
    async with client(first) as http:
        packages = Packages(http)
        await packages.allow("alpha", set="web")
        await packages.install("web")
        await until_imported("2.0", "web")
    await first.__aexit__(None, None, None)
    await run_host(data_dir=open_directory / "another")
    result = await imported("web")
    assert result.stdout == "2.0\n" or "packages are not ready here: " in refusal(result)
    await until_imported("2.0", "web")
    assert len(registry.fetched) == 1


async def test_what_is_not_stored_yet_is_waited_for(
    packages: Packages, host: Host, registry: Registry
) -> None:
    await packages.allow("alpha", set="web")
    registry.may_fetch.clear()
    await packages.ask("web")
    await until(lambda: registry.fetched)
    result = await imported("web")
    assert "packages are not ready here: the set is being installed" in refusal(result)
    registry.may_fetch.set()
    await until_imported("2.0", "web")


async def test_a_tree_that_cannot_be_unpacked_says_so(
    packages: Packages, registry: Registry, host: Host
) -> None:
    """A file that is what its lock says, and no wheel all the same."""
    registry.file = lambda *about: Registry.file(registry, about[0], about[1], 500)  # type: ignore[method-assign]
    registry.fetch = lambda file: Registry.fetch(registry, file)  # type: ignore[method-assign]
    await packages.allow("alpha", set="web")
    assert (await packages.install("web"))["state"] == "current"

    async def refused() -> bool:
        return "packages are not ready here: alpha: " in refusal(await imported("web"))

    await until_it(refused, "the run is refused for the package")
