"""Installing a set: all or nothing, whatever fails, and whoever dies in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ringfence import Event, PluginInfo, hookimpl
from ringfence.host import Host
from ringfence.plugins.context import PluginContext
from ringfence.testing import RunHost, client
from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.hooks import (
    ScriptPackagesChanged,
    ScriptPackagesFailed,
    script_packages_changed,
    script_packages_failed,
)
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from sqlalchemy import text

from tests.script_packages.packages.conftest import SETS, Packages
from tests.script_packages.packages.registry import Registry
from tests.script_packages.packages.test_blobs import context_of, count
from tests.waiting import until, until_it


class Witness:
    """Hears what becomes of sets."""

    info = PluginInfo(id="witness", version="1", requires=("script-packages",))

    def __init__(self) -> None:
        self.changed: list[tuple[str, str | None]] = []
        self.failed: list[ScriptPackagesFailed] = []

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        async def changed(event: Event[ScriptPackagesChanged]) -> None:
            self.changed.append((event.payload.set, event.payload.lock_hash))

        async def failed(event: Event[ScriptPackagesFailed]) -> None:
            self.failed.append(event.payload)

        context.on_hook(script_packages_changed, changed)
        context.on_hook(script_packages_failed, failed)


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
async def host(run_host: RunHost, registry: Registry, witness: Witness) -> Host:
    return await run_host(plugins=[ScriptPackagesPlugin(resolver=registry, fetcher=registry), witness])


def versions(state: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["version"] for one in state["packages"]}


async def test_a_set_is_resolved_stored_and_told_of(
    packages: Packages, registry: Registry, witness: Witness
) -> None:
    await packages.allow("alpha", "beta")
    await packages.allow("gamma", ecosystem="npm")
    registry.has["gamma"] = [("3.0.0", 700)]
    asked = await packages.ask()
    assert asked["state"] == "installing"
    state = await packages.ended()
    assert (state["state"], state["error"], state["request"]) == ("current", None, None)
    assert versions(state) == {"alpha": "2.0", "beta": "1.0", "gamma": "3.0.0"}
    assert registry.platforms[0], "the platform of this machine is known"
    [platform] = state["platforms"]
    assert platform["storedBytes"] == platform["bytes"] == state["bytes"]
    lock = (await packages.http.get(f"{PACKAGES}/locks/{state['lockHash']}")).json()
    assert [one["name"] for one in lock["python"]] == ["alpha", "beta"]
    await until(lambda: witness.changed == [("default", state["lockHash"])])


async def test_the_same_again_keeps_the_lock_and_upgrade_makes_another(
    packages: Packages, registry: Registry
) -> None:
    await packages.allow("alpha")
    first = await packages.install()
    registry.has["alpha"].append(("3.0", 100))
    again = await packages.install()
    assert again["lockHash"] == first["lockHash"]
    assert len(registry.asked) == 1
    assert len(registry.fetched) == 1
    newer = await packages.install(upgrade=True)
    assert versions(newer) == {"alpha": "3.0"}
    assert newer["lockHash"] != first["lockHash"]


async def test_another_package_moves_no_other_and_upgrade_moves_them(
    packages: Packages, registry: Registry
) -> None:
    await packages.allow("alpha")
    await packages.install()
    registry.has["alpha"].append(("3.0", 100))
    await packages.allow("beta")
    assert versions(await packages.install()) == {"alpha": "2.0", "beta": "1.0"}
    assert versions(await packages.install(upgrade=True)) == {"alpha": "3.0", "beta": "1.0"}


async def test_another_range_makes_another_lock(packages: Packages) -> None:
    await packages.allow("alpha")
    assert versions(await packages.install()) == {"alpha": "2.0"}
    await packages.allow("alpha<2")
    assert versions(await packages.install()) == {"alpha": "1.0"}


async def test_two_sets_have_two_versions_of_one_package(packages: Packages) -> None:
    await packages.allow("alpha")
    await packages.allow("alpha<2", set="old")
    assert versions(await packages.install()) == {"alpha": "2.0"}
    assert versions(await packages.install("old")) == {"alpha": "1.0"}


async def test_what_is_removed_is_gone_once_the_set_is_installed_again(packages: Packages) -> None:
    await packages.allow("alpha")
    await packages.install()
    await packages.http.delete(f"{PACKAGES}/entries", params={"name": "alpha"})
    assert versions(await packages.show()) == {"alpha": "2.0"}
    assert versions(await packages.install()) == {}


async def test_a_package_that_there_is_not_changes_nothing(
    packages: Packages, registry: Registry, witness: Witness
) -> None:
    await packages.allow("alpha")
    good = await packages.install()
    await packages.allow("nosuch")
    state = await packages.install()
    assert (state["state"], state["lockHash"]) == ("failed", good["lockHash"])
    assert state["error"] == {
        "reason": "not-found",
        "package": "nosuch",
        "message": "the registry has none",
        "hint": "Look.",
    }
    [told] = await until(lambda: witness.failed)
    assert (told.set, told.package, told.why) == ("default", "nosuch", "not-found")
    assert [lock for _, lock in witness.changed] == [good["lockHash"]]


async def test_a_file_that_is_not_what_was_promised_changes_nothing(
    packages: Packages, registry: Registry, host: Host
) -> None:
    await packages.allow("alpha", "beta")
    registry.spoiled.add("beta-1.0-py3-none-any.whl")
    state = await packages.install()
    assert (state["state"], state["lockHash"]) == ("failed", None)
    assert (state["error"]["reason"], state["error"]["package"]) == ("hash-differs", "beta 1.0")
    assert "--upgrade" in state["error"]["hint"]
    registry.spoiled.clear()
    assert (await packages.install())["state"] == "current"
    assert await count(host, "blobs") == 2


async def test_a_set_that_is_too_large_is_refused_before_anything_is_fetched(
    packages: Packages, registry: Registry
) -> None:
    registry.has["huge"] = [("1.0", 400 * 1024 * 1024)]
    await packages.allow("huge", "alpha")
    registry.file = _of_size(registry)  # type: ignore[method-assign]
    state = await packages.install()
    assert state["error"]["reason"] == "too-large"
    assert state["error"]["package"] == "huge 1.0"
    assert "RINGFENCE_SCRIPT_PACKAGES_MAX_SET_MIB" in state["error"]["hint"]
    assert registry.fetched == []


def _of_size(registry: Registry) -> Any:
    """Files as large as is said, without a content that would take so much room."""
    plain = Registry.file

    def file(name: str, version: str, size: int) -> Any:
        return plain(registry, name, version, 10).model_copy(update={"size": size})

    return file


async def test_a_package_without_a_file_for_this_platform_says_so(
    packages: Packages, registry: Registry
) -> None:
    registry.tags["beta"] = "cp27-cp27m-win32"
    await packages.allow("beta")
    state = await packages.install()
    assert (state["error"]["reason"], state["error"]["package"]) == ("no-file", "beta")
    assert "has no wheel for this platform" in state["error"]["message"]


async def test_how_far_it_is_can_be_seen_meanwhile(packages: Packages, registry: Registry) -> None:
    registry.may_resolve.clear()
    registry.may_fetch.clear()
    await packages.allow("alpha")
    await packages.ask()

    async def progress(phase: str) -> dict[str, Any] | None:
        found = (await packages.show())["progress"]
        return dict(found) if found and found["phase"] == phase and found["doing"] else None

    resolving = await until_it(lambda: progress("resolving"), "it is resolved")
    assert resolving is not None
    assert resolving["doing"] == "looking at the index"
    registry.may_resolve.set()

    async def half() -> bool:
        found = await progress("fetching")
        return found is not None and found["bytesDone"] == 1500

    await until_it(half, "half of the file has come")
    fetching = await progress("fetching")
    assert fetching is not None
    assert (fetching["doing"], fetching["bytes"], fetching["packages"]) == ("alpha 2.0", 3000, 1)
    registry.may_fetch.set()
    assert (await packages.ended())["state"] == "current"


async def test_what_is_allowed_while_it_is_installed_is_installed_too(
    packages: Packages, registry: Registry
) -> None:
    registry.may_resolve.clear()
    await packages.allow("alpha")
    await packages.ask()
    await until(registry.resolving.is_set)
    await packages.allow("beta")
    assert (await packages.ask())["state"] == "installing"
    registry.may_resolve.set()
    assert versions(await packages.ended()) == {"alpha": "2.0", "beta": "1.0"}


async def test_a_set_that_is_deleted_while_it_is_installed_stays_deleted(
    packages: Packages, registry: Registry, host: Host
) -> None:
    registry.may_fetch.clear()
    await packages.allow("alpha")
    await packages.ask()
    await until(lambda: registry.fetched)
    await packages.http.delete(f"{SETS}/default")
    registry.may_fetch.set()
    await packages.allow("beta", set="other")
    assert (await packages.install("other"))["state"] == "current"
    assert [one["name"] for one in (await packages.http.get(SETS)).json()["sets"]] == ["other"]


async def test_another_instance_goes_on_where_one_has_stopped_and_fetches_nothing_twice(
    run_host: RunHost, another: Callable[[], Awaitable[Host]], registry: Registry
) -> None:
    first = await run_host()
    async with client(first) as http:
        packages = Packages(http)
        await packages.allow("alpha", "beta")
        registry.may_resolve.clear()
        await packages.ask()
        await until(registry.resolving.is_set)
        registry.may_resolve.set()
        registry.may_fetch.clear()

        await until(lambda: len(registry.fetched) == 2)
    await first.__aexit__(None, None, None)
    assert await count(first, "blobs") == 0
    registry.may_fetch.set()
    async with client(await another()) as http:
        state = await Packages(http).ended()
        assert (state["state"], versions(state)) == ("current", {"alpha": "2.0", "beta": "1.0"})
        fetched = len(registry.fetched)
        await Packages(http).install(upgrade=True)
        assert len(registry.fetched) == fetched, "what is stored is not fetched twice"


async def test_a_file_that_was_lost_is_fetched_again(
    packages: Packages, registry: Registry, host: Host
) -> None:
    await packages.allow("alpha")
    await packages.install()
    async with host.runtime.database.sessions.begin() as session:
        await session.execute(text("DELETE FROM script_packages_blobs"))
    state = await packages.install()
    assert state["state"] == "current"
    assert registry.fetched == ["alpha-2.0-py3-none-any.whl"] * 2


async def test_a_full_database_ends_it_with_what_to_do_and_it_can_be_tried_again(
    packages: Packages, host: Host, registry: Registry
) -> None:
    await packages.allow("beta")
    before = await packages.install()
    await packages.allow("alpha")
    # What PostgreSQL says of a full disk, of the pieces of files alone.
    await execute(
        host,
        """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$""",
    )
    await execute(
        host,
        "CREATE TRIGGER full_disk BEFORE INSERT ON script_packages_chunks FOR EACH ROW EXECUTE FUNCTION full_disk()",
    )
    failed = await packages.install()
    assert failed["state"] == "failed"
    assert failed["error"]["reason"] == "full"
    assert "the database has no room left" in failed["error"]["message"]
    assert "again" in failed["error"]["hint"]
    assert failed["lockHash"] == before["lockHash"]
    assert await count(host, "uploads") == await count(host, "blobs") == 1, "nothing half is left"
    await execute(host, "DROP TRIGGER full_disk ON script_packages_chunks")
    assert versions(await packages.install()) == {"alpha": "2.0", "beta": "1.0"}


async def execute(host: Host, statement: str) -> None:
    async with context_of(host).sessions.begin() as session:
        await session.execute(text(statement))
