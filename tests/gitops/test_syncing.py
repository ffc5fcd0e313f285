"""What a repository declares holds on a real host: all of a commit or nothing, with the commit as the reason."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from ringfence.host import Host
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client, eventually
from sqlalchemy import text

from tests.gitops.repositories import HAS_GIT, Repository

pytestmark = pytest.mark.skipif(not HAS_GIT, reason="git is not installed")
SOURCES, RELEASED = "/api/gitops/sources", "/api/gitops/released"
SATELLITES = "/api/satellite/satellites"
KIND = "apiVersion: ringfence/v1\nkind: Satellite\nmetadata: {{name: {name}}}\nspec: {{region: {region}}}\n"
CHECK = """
apiVersion: ringfence/v1
kind: Check
metadata: {name: disk}
spec: {system: shop, kind: shell, scriptFile: disk.sh, runsOn: {satellites: [edge-1]}}
"""


def satellite(name: str = "edge-1", region: str = "eu") -> str:
    return KIND.format(name=name, region=region)


async def put(
    caller: httpx.AsyncClient, name: str, url: str, *, status: int = 200, **more: Any
) -> dict[str, Any]:
    answer = await caller.put(f"{SOURCES}/{name}", json={"url": url, **more})
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def shown(caller: httpx.AsyncClient, name: str) -> dict[str, Any]:
    answer = await caller.get(f"{SOURCES}/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def settled(
    caller: httpx.AsyncClient, name: str, *, commit: str | None = None, error: str | None = None
) -> dict[str, Any]:
    """The source, once the commit holds, or once it has failed with such an error."""

    async def look() -> dict[str, Any] | None:
        found = await shown(caller, name)
        if error is not None:
            return found if error in (found["error"] or "") else None
        return found if found["status"] == "synced" and found["commit"] == commit else None

    for _ in range(200):
        if (found := await look()) is not None:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(await shown(caller, name))


async def synced(caller: httpx.AsyncClient, name: str, **more: Any) -> None:
    """Have it followed once more, and wait for the end of that."""
    before = (await shown(caller, name))["triedAt"]
    answer = await caller.post(f"{SOURCES}/{name}/sync", json=more)
    assert answer.status_code == 202, answer.text

    async def tried() -> bool:
        return bool((await shown(caller, name))["triedAt"] != before)

    assert await eventually(tried)


async def regions(caller: httpx.AsyncClient) -> dict[str, str]:
    return {one["name"]: one["region"] for one in (await caller.get(SATELLITES)).json()["satellites"]}


async def told(host: Host, hook: str) -> list[dict[str, Any]]:
    async with host.database.sessions() as session:
        rows = await session.execute(
            text("SELECT payload, actor, reason FROM events WHERE hook = :hook ORDER BY position"),
            {"hook": hook},
        )
        return [{**row.payload, "actor": row.actor, "why": row.reason} for row in rows]


async def change_in_database(host: Host, statement: str) -> None:
    async with host.database.sessions.begin() as session:
        await session.execute(text(statement))


async def test_a_repository_is_followed_from_its_first_commit_to_its_end(
    run_host: RunHost, repository: Repository
) -> None:
    """One host, as each start takes long: commits, drift, errors and deletion follow each other."""
    first = repository.commit(
        {"shop/a.yaml": satellite(), "shop/disk.yaml": CHECK, "shop/disk.sh": "exit 0\n"}, "Begin"
    )
    host = await run_host(plugins=discover())
    rules = list(host.access.rules)
    async with client(host, name="ann", rules=rules) as ann:
        await put(ann, "shop", repository.url, path="shop")
        found = await settled(ann, "shop", commit=first)
        assert (found["actsFor"], found["subject"], found["author"], found["objects"]) == (
            "ann",
            "Begin",
            "Ann",
            2,
        )
        assert [(one["kind"], one["name"], one["place"]) for one in found["held"]] == [
            ("Check", "disk", "disk.yaml:3:1"),
            ("Satellite", "edge-1", "a.yaml:2:1"),
        ]
        [registered] = await told(host, "satellite-registered")
        assert registered["actor"] == "ann"
        assert registered["why"] == f"commit {first[:12]}: Begin (applied from git:shop@{first})"

        # What nobody has changed makes no event.
        before = len(await told(host, "gitops-synced"))
        await synced(ann, "shop")
        assert len(await told(host, "gitops-synced")) == before == 1

        # It is read-only, and says where it stands.
        [one] = (await ann.get(SATELLITES)).json()["satellites"]
        refused = await ann.patch(f"{SATELLITES}/{one['id']}", json={"region": "us"})
        assert refused.status_code == 409
        assert "git source shop (shop/a.yaml:2, commit" in refused.json()["detail"]
        assert "“Begin”" in refused.json()["detail"]

        # Drift is found, told and set right.
        await change_in_database(host, "UPDATE satellite_satellites SET region = 'us'")
        await synced(ann, "shop")
        assert await regions(ann) == {"edge-1": "eu"}
        drift = (await told(host, "gitops-synced"))[-1]
        assert (drift["changed"], drift["drifted"], drift["changes"][0]["drift"]) == (1, 1, True)

        # A commit with an error in it changes and deletes nothing, and says where it is.
        repository.commit(
            {"shop/b.yaml": satellite("edge-2"), "shop/disk.yaml": "kind: [", "shop/a.yaml": None}, "Bad"
        )
        await synced(ann, "shop")
        bad = await settled(ann, "shop", error="disk.yaml:2:")
        assert (bad["status"], bad["commit"]) == ("failed", first)
        assert await regions(ann) == {"edge-1": "eu"}
        await synced(ann, "shop")
        [failed] = await told(host, "gitops-failed")
        assert (failed["source"], failed["file"], failed["line"]) == ("shop", "disk.yaml", 2)

        # What is gone from the repository stays, and belongs to nobody.
        third = repository.commit({"shop/disk.yaml": None}, "Without the check")
        await synced(ann, "shop")
        await settled(ann, "shop", commit=third)
        assert await regions(ann) == {"edge-1": "eu", "edge-2": "eu"}
        assert (await ann.patch(f"{SATELLITES}/{one['id']}", json={"region": "us"})).status_code == 200

        # With prune it is removed: what this source has applied, and nothing else.
        await ann.post(SATELLITES, json={"name": "by-hand", "region": "x"})
        fourth = repository.commit({"shop/c.yaml": satellite("edge-3")}, "One more")
        await put(ann, "shop", repository.url, path="shop", deletion="prune")
        await settled(ann, "shop", commit=fourth)
        fifth = repository.commit({"shop/b.yaml": None}, "Without edge-2")
        await synced(ann, "shop")
        await settled(ann, "shop", commit=fifth)
        assert set(await regions(ann)) == {"edge-1", "edge-3", "by-hand"}

        # A rewind is what the branch says now; a deleted branch and an empty directory change nothing.
        repository.git("reset", "--quiet", "--hard", fourth)
        repository.push()
        await synced(ann, "shop")
        await settled(ann, "shop", commit=fourth)
        assert set(await regions(ann)) == {"edge-1", "edge-2", "edge-3", "by-hand"}
        repository.git(f"--git-dir={repository.bare}", "update-ref", "-d", "refs/heads/main")
        await synced(ann, "shop")
        await settled(ann, "shop", error="there is no branch main")
        repository.commit({"shop/b.yaml": None, "shop/c.yaml": None}, "Nothing")
        await synced(ann, "shop")
        await settled(ann, "shop", error="there is no")
        assert set(await regions(ann)) == {"edge-1", "edge-2", "edge-3", "by-hand"}

        # The source goes, and leaves what it has applied to anybody.
        gone = await ann.delete(f"{SOURCES}/shop")
        assert {one["name"] for one in gone.json()["orphaned"]} == {"edge-2", "edge-3"}
        two = next(one for one in (await ann.get(SATELLITES)).json()["satellites"] if one["name"] == "edge-2")
        assert (await ann.delete(f"{SATELLITES}/{two['id']}")).status_code == 204
        changes = [one["change"] for one in await told(host, "gitops-source-changed")]
        assert changes == ["created", "updated", "removed"]
