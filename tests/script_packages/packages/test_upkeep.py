"""What is deleted and what is kept, and what audits find and tell."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import pytest
from ringfence import Event, PluginContext, PluginInfo, hookimpl
from ringfence.host import Host
from ringfence.scripts.packages.lock import Ecosystem, Lock, Requirement
from ringfence.testing import RunHost
from ringfence_script_packages.addresses import PACKAGES
from ringfence_script_packages.hooks import ScriptPackagesVulnerable, script_packages_vulnerable
from ringfence_script_packages.packages.locks import put_lock, read_lock
from ringfence_script_packages.packages.resolving.audit import Audit, Finding, NotReachable
from ringfence_script_packages.packages.sets import Sets
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_script_packages.service import PackageUser
from sqlalchemy import text

from tests.script_packages.packages.conftest import SETS, Packages
from tests.script_packages.packages.registry import Registry
from tests.script_packages.packages.test_blobs import context_of, count
from tests.waiting import until, until_it

OLD = Finding(Ecosystem.PYPI, "alpha", "2.0", "ADV-1", "it tells secrets", fixed=("2.1",))
NEW = Finding(Ecosystem.PYPI, "alpha", "2.0", "ADV-2", "it falls over")


class Advisories:
    """An `Auditor` that knows what a test says."""

    def __init__(self) -> None:
        self.known: Audit = Audit()
        self.asked: list[Lock] = []

    async def audit(self, lock: Lock) -> Audit:
        self.asked.append(lock)
        return self.known


class Scripts:
    """A plugin whose scripts use some sets, and that hears of vulnerabilities."""

    info = PluginInfo(id="scripts", version="1", requires=("script-packages",))

    def __init__(self) -> None:
        self.uses: Collection[str] | None = ()
        self.heard: list[ScriptPackagesVulnerable] = []

    async def sets(self) -> Collection[str]:
        if self.uses is None:
            raise OSError("away")
        return self.uses

    async def using(self, set: str) -> Sequence[str]:
        return ()

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        context.services.extend(PackageUser, self)

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        async def hear(event: Event[ScriptPackagesVulnerable]) -> None:
            self.heard.append(event.payload)

        context.on_hook(script_packages_vulnerable, hear)


@pytest.fixture
def advisories() -> Advisories:
    return Advisories()


@pytest.fixture
def scripts() -> Scripts:
    return Scripts()


@pytest.fixture
async def host(run_host: RunHost, registry: Registry, advisories: Advisories, scripts: Scripts) -> Host:
    plugin = ScriptPackagesPlugin(resolver=registry, fetcher=registry, auditor=advisories)
    return await run_host(plugins=[plugin, scripts])


async def age(host: Host) -> None:
    """Have everything that there is be a month old."""
    async with host.runtime.database.sessions.begin() as session:
        for table in ("blobs", "locks", "sets"):
            await session.execute(
                text(f"UPDATE script_packages_{table} SET wanted_at = wanted_at - interval '1 month'")
            )


async def collect(packages: Packages) -> dict[str, int]:
    answer = await packages.http.post(f"{PACKAGES}/gc")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


NOTHING = {"sets": 0, "locks": 0, "files": 0, "bytes": 0}


async def test_what_a_set_had_before_is_kept_for_a_while_and_goes_then(
    host: Host, packages: Packages
) -> None:
    await packages.allow("alpha", "beta")
    await packages.install()
    await age(host)
    await packages.allow("alpha<2")
    state = await packages.install()
    assert await collect(packages) == NOTHING, "runs may use it still"
    await age(host)
    assert await collect(packages) == {"sets": 0, "locks": 1, "files": 1, "bytes": 3000}
    [platform] = (await packages.show())["platforms"]
    assert platform["storedBytes"] == state["bytes"] == 1500


async def test_a_lock_that_a_set_comes_back_to_while_old_ones_are_deleted_is_kept(
    host: Host, packages: Packages
) -> None:
    await packages.allow("alpha<2")
    lock = (await packages.install())["lockHash"]
    await packages.allow("alpha")
    await packages.install(upgrade=True)
    await age(host)
    sessions = host.runtime.database.sessions
    async with sessions.begin() as session:
        found = await read_lock(session, lock)
        assert found is not None
        await put_lock(session, found)
        await session.execute(text("UPDATE script_packages_sets SET lock_hash = :lock"), {"lock": lock})
        collecting = asyncio.create_task(collect(packages))

        async def waits() -> bool:
            async with sessions() as other:
                return bool(
                    await other.scalar(text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
                )

        await until_it(waits, "who deletes waits for who takes the lock into use")
    assert (await collecting)["locks"] == 0
    assert (await packages.show())["lockHash"] == lock


async def test_a_file_that_another_set_has_too_is_kept(host: Host, packages: Packages) -> None:
    await packages.allow("alpha")
    await packages.allow("alpha", "beta", set="other")
    await packages.install()
    await packages.install("other")
    await packages.http.delete(f"{SETS}/other")

    async def gone() -> bool:
        # Who installs looks at all files once more after that, and then they are young again.
        await age(host)
        return (await collect(packages))["files"] == 1

    await until_it(gone, "the file that no set has any more is collected")
    assert await count(host, "blobs") == 1


async def test_a_set_of_a_script_is_kept_while_a_script_uses_it_or_nobody_can_tell(
    host: Host, packages: Packages, scripts: Scripts
) -> None:
    sets = Sets(context_of(host))
    await sets.make("inline-x", [Requirement(ecosystem=Ecosystem.PYPI, text="alpha")], by="ann")
    await packages.ended("inline-x")
    await age(host)
    scripts.uses = ("inline-x",)
    assert await collect(packages) == NOTHING
    await age(host)
    scripts.uses = None
    with pytest.raises(OSError, match="away"):
        await packages.http.post(f"{PACKAGES}/gc")
    assert (await packages.show("inline-x"))["state"] == "current"
    scripts.uses = ()
    assert (await collect(packages))["sets"] == 1


async def test_what_an_audit_finds_is_told_once_and_shown_until_it_is_over(
    packages: Packages, advisories: Advisories, scripts: Scripts
) -> None:
    await packages.allow("alpha")
    lock = (await packages.install())["lockHash"]
    advisories.known = Audit((OLD,))
    [first] = (await packages.http.post(f"{PACKAGES}/audit")).json()["sets"]
    assert (first["set"], first["isOfThisLock"], first["problems"]) == ("default", True, [])
    assert first["findings"][0]["advisory"] == "ADV-1"
    advisories.known = Audit((OLD, NEW))
    [second] = (await packages.http.post(f"{PACKAGES}/audit")).json()["sets"]
    assert second["findings"][0]["foundAt"] == first["findings"][0]["foundAt"]
    await until(lambda: len(scripts.heard) == 2)
    assert [[one.advisory for one in told.found] for told in scripts.heard] == [["ADV-1"], ["ADV-2"]]
    assert scripts.heard[0].lock_hash == lock
    advisories.known = Audit((NEW,))
    [third] = (await packages.http.post(f"{PACKAGES}/audit")).json()["sets"]
    assert [one["advisory"] for one in third["findings"]] == ["ADV-2"]
    assert (await packages.http.get(f"{PACKAGES}/audit")).json()["sets"] == [third]


async def test_what_cannot_be_asked_is_said_and_takes_nothing_back(
    packages: Packages, advisories: Advisories
) -> None:
    await packages.allow("alpha")
    await packages.install()
    advisories.known = Audit((OLD,))
    await packages.http.post(f"{PACKAGES}/audit")
    advisories.known = Audit(not_reachable=(NotReachable(Ecosystem.PYPI, "it does not answer"),))
    [told] = (await packages.http.post(f"{PACKAGES}/audit")).json()["sets"]
    assert told["problems"] == ["pypi: it does not answer"]
    assert [one["advisory"] for one in told["findings"]] == ["ADV-1"]
