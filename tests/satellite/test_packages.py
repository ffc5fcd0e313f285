"""The packages of satellites: each is told of its own, fetches nothing else, and says how far it is."""

from __future__ import annotations

import asyncio
import uuid
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from ringfence.scripts.packages.lock import Lock
from ringfence.testing import PluginFactory, client
from ringfence.web import TextMessage
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_satellite.protocol import (
    PACKAGES,
    TASK,
    Authenticate,
    RequestScriptPackageBlob,
    RequestScriptPackageManifest,
    ScriptPackageSyncState,
)
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.packages.offering import ANSWERED_AT_ONCE
from ringfence_script_packages.plugin import ScriptPackagesPlugin

from tests.satellite.instances import Instance, Peer, Registered
from tests.script_packages.packages.conftest import SETS, Packages
from tests.script_packages.packages.registry import Registry, content_of
from tests.waiting import until_it

LARGE = 1_500_000


@pytest.fixture
def registry() -> Registry:
    return Registry({"alpha": [("1.0", LARGE)], "beta": [("1.0", 500)]})


@pytest.fixture
def plugins_under_test(registry: Registry) -> PluginFactory:
    return lambda: [ScriptPackagesPlugin(resolver=registry, fetcher=registry), SatellitePlugin()]


@pytest.fixture
def packages(instance: Instance) -> Packages:
    return Packages(instance.api)


@asynccontextmanager
async def connected(
    instance: Instance, satellite: Registered, **fields: Any
) -> AsyncIterator[tuple[Peer, dict[str, Any]]]:
    """A satellite that understands packages, and its welcome."""
    async with instance.peer() as peer:
        await peer.say(
            Authenticate(
                client_id=satellite.id, token=satellite.token, understands=(TASK, PACKAGES), **fields
            )
        )
        yield peer, await peer.hear("authenticated")


async def piece(peer: Peer, frame: RequestScriptPackageBlob | RequestScriptPackageManifest) -> dict[str, Any]:
    """The answer to a request for a piece."""
    await peer.say(frame)
    answer = await peer.hear("script_package_piece")
    assert answer["requestId"] == frame.request_id
    return answer


async def fetched(peer: Peer, lock: str, sha256: str | None = None) -> bytes:
    """All pieces of a lock, or of a file of it."""
    content, total = b"", 1
    while len(content) < total:
        request: RequestScriptPackageBlob | RequestScriptPackageManifest = (
            RequestScriptPackageManifest(request_id=str(uuid.uuid4()), lock=lock, offset=len(content))
            if sha256 is None
            else RequestScriptPackageBlob(
                request_id=str(uuid.uuid4()), lock=lock, sha256=sha256, offset=len(content)
            )
        )
        answer = await piece(peer, request)
        assert "error" not in answer, answer
        content += b64decode(answer["content"])
        total = answer["total"]
    return content


async def test_a_satellite_is_told_of_a_new_lock_and_fetches_it_in_pieces(
    instance: Instance, packages: Packages
) -> None:
    async with connected(instance, await instance.register()) as (peer, welcome):
        assert (welcome["tellsPackages"], welcome["scriptPackages"]) == (True, {})
        await packages.allow("alpha")
        lock = (await packages.install())["lockHash"]
        assert (await peer.hear("refresh_script_packages"))["sets"] == {"default": lock}
        manifest = Lock.model_validate_json(await fetched(peer, lock))
        assert manifest.hash == lock
        [file] = manifest.files
        assert file.url is None, "where a file comes from is nobody else's business"
        assert await fetched(peer, lock, file.sha256) == content_of("alpha", "1.0", LARGE)


async def test_nothing_of_another_lock_is_given_away(
    instance: Instance, packages: Packages, registry: Registry
) -> None:
    await packages.allow("beta")
    mine = (await packages.install())["lockHash"]
    await packages.allow("alpha", set="other")
    other = (await packages.install("other"))["lockHash"]
    foreign = registry.file("alpha", "1.0", LARGE).sha256
    async with connected(instance, await instance.register()) as (peer, welcome):
        assert welcome["scriptPackages"] == {"default": mine}
        for request in (
            RequestScriptPackageManifest(request_id="1", lock=other),
            RequestScriptPackageBlob(request_id="2", lock=other, sha256=foreign),
            RequestScriptPackageBlob(request_id="3", lock=mine, sha256=foreign),
        ):
            answer = await piece(peer, request)
            assert (answer["content"], answer["error"]) == ("", "this satellite is not assigned that")


async def test_many_that_fetch_at_once_leave_the_instance_time_for_all_else(
    instance: Instance, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn, answered = 0, Counter[int]()
    tell = Connection.tell_piece

    def told(self: Connection, message: TextMessage) -> None:
        answered[turn] += 1
        tell(self, message)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    await packages.allow("alpha")
    lock = (await packages.install())["lockHash"]
    async with AsyncExitStack() as stack:
        peers = [
            (await stack.enter_async_context(connected(instance, await instance.register(f"edge-{n}"))))[0]
            for n in range(20)
        ]
        # It has been read by then.
        await fetched(peers[0], lock)
        monkeypatch.setattr(Connection, "tell_piece", told)
        counting = asyncio.create_task(count_turns())
        await asyncio.gather(
            *(
                piece(peer, RequestScriptPackageManifest(request_id=f"{n}", lock=lock))
                for n, peer in enumerate(peers)
            )
        )
        counting.cancel()
    assert answered.total() == len(peers)
    assert max(answered.values()) <= ANSWERED_AT_ONCE


async def test_a_run_brings_its_set_to_the_satellite_before_it(
    instance: Instance, packages: Packages
) -> None:
    await packages.allow("beta", set="forms")
    lock = (await packages.install("forms"))["lockHash"]
    satellite = await instance.register()
    async with connected(instance, satellite) as (peer, welcome):
        assert welcome["scriptPackages"] == {}
        await instance.ask(satellite, kind="python", packages="forms")
        assert (await peer.hear("refresh_script_packages"))["sets"] == {"forms": lock}
        assert (await peer.hear("run_script"))["packages"] == "forms"


async def test_a_run_has_the_set_of_its_text_once_that_is_installed(
    instance: Instance, packages: Packages
) -> None:
    await packages.allow("beta")
    satellite = await instance.register()
    path = f"/api/satellite/satellites/{satellite.id}/runs"
    script = '# /// script\n# dependencies = ["beta"]\n# ///\n'
    body = {"kind": "python", "script": script}
    async with connected(instance, satellite) as (peer, _):
        refused = await packages.http.post(path, json=body)
        assert refused.status_code == 422
        assert "ringfence packages install --script FILE" in refused.json()["detail"]
        name = (
            await packages.http.post(
                f"{SETS.removesuffix('/sets')}/scripts/install", json={"script": script, "name": "x.py"}
            )
        ).json()["name"]
        await packages.ended(name)
        assert (await packages.http.post(path, json=body)).status_code == 201
        assert list((await peer.hear("refresh_script_packages"))["sets"]) == [name]
        assert (await peer.hear("run_script"))["packages"] == name
    unknown = await packages.http.post(path, json={**body, "script": "x = 1", "packages": "nowhere"})
    assert (unknown.status_code, "no set of packages 'nowhere'" in unknown.text) == (422, True)


async def test_how_far_a_set_is_on_satellites_is_shown_with_the_set(
    instance: Instance, packages: Packages
) -> None:
    await packages.allow("beta")
    lock = (await packages.install())["lockHash"]
    async with connected(instance, await instance.register("edge-7")) as (peer, _):
        report = ScriptPackageSyncState(set="default", lock=lock, state="syncing", bytes=100, total=500)
        await peer.say(report)
        await peer.say(report.model_copy(update={"set": "never-assigned"}))

        async def shown() -> Any:
            return (await packages.http.get(f"{SETS}/default")).json()["held"]["lacking"]

        [held] = await until_it(shown, "the report is shown")
        rollout = (await packages.http.get("/api/satellite/rollout")).json()
        assert rollout["packages"] == {"default": {"syncing": 1}}
        told = {name: held[name] for name in ("name", "state", "storedBytes", "bytes", "error")}
        assert told == {
            "name": "edge-7",
            "state": "syncing",
            "storedBytes": 100,
            "bytes": 500,
            "error": None,
        }
        async with client(instance.host, rules=["script-packages.package.read"]) as other:
            seen = (await other.get(f"{SETS}/default")).json()["held"]
        assert seen == {"counts": {}, "lacking": []}, "who may not see satellites sees none here"
        await peer.say(report.model_copy(update={"state": "ready", "bytes": 500}))

        async def ready() -> bool:
            held = (await packages.http.get(f"{SETS}/default")).json()["held"]
            return bool(held == {"counts": {"ready": 1}, "lacking": []})

        await until_it(ready, "it is ready")
        await packages.allow("alpha")
        await packages.install()

        async def is_behind() -> bool:
            held = (await packages.http.get(f"{SETS}/default")).json()["held"]
            return bool(held["counts"] == {"pending": 1})

        await until_it(is_behind, "it has not the new lock")


async def test_packages_of_a_satellites_platform_are_fetched_for_it(
    instance: Instance, packages: Packages
) -> None:
    await packages.allow("beta")
    await packages.install()
    python = {
        "implementation": "cpython",
        "version": "3.13.1",
        "freeThreaded": False,
        "machine": "riscv64",
        "libc": "musl",
        "libcVersion": "1.2",
    }
    async with connected(instance, await instance.register(), platform={"python": python}):
        platforms = (await packages.show())["platforms"]
        assert "riscv64" in [one["python"]["machine"] for one in platforms if one["python"]]
    async with connected(instance, await instance.register("b"), platform={"python": {"version": 7}}):
        pass  # It is let in all the same.
