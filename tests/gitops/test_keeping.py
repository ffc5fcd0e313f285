"""What comes from git is kept so: by a lock on pages, against other sources, and until somebody releases it."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client, signed_in

from tests.gitops.repositories import HAS_GIT, Repository, signing_key
from tests.gitops.test_syncing import (
    RELEASED,
    SATELLITES,
    SOURCES,
    change_in_database,
    put,
    regions,
    satellite,
    settled,
    shown,
    synced,
    told,
)

pytestmark = pytest.mark.skipif(not HAS_GIT, reason="git is not installed")
POLICY = """
apiVersion: ringfence/v1
kind: SandboxPolicy
metadata: {name: sandbox-policy}
spec: {network: {mode: deny}}
"""
CHECK = """
apiVersion: ringfence/v1
kind: Check
metadata: {name: disk}
spec: {system: shop, kind: shell, script: exit 0, runsOn: {satellites: [edge-1]}}
"""
AUTOMATION = """
apiVersion: ringfence/v1
kind: Automation
metadata: {name: greet}
spec: {triggers: [{hook: satellite-registered}], steps: [{run_shell: {script: exit 0}}]}
"""
PACKAGES = """
apiVersion: ringfence/v1
kind: ScriptPackages
metadata: {name: web-tools}
spec: {pypi: ["requests>=2"], install: false}
"""
CHANNEL = """
apiVersion: ringfence/v1
kind: NotificationChannel
metadata: {name: on-call}
spec: {addressSecret: ON_CALL}
"""
ROUTE = """
apiVersion: ringfence/v1
kind: NotificationRoute
metadata: {name: new-satellites}
spec: {hook: satellite-registered, title: "{{ event.name }} is new", channels: [on-call]}
"""
SILENCE = """
apiVersion: ringfence/v1
kind: Silence
metadata: {name: move}
spec: {satellite: edge-1, from: "2026-01-01T00:00:00Z", until: "2100-01-01T00:00:00Z", reason: the move}
"""
EVERY = "---".join((POLICY, CHECK, AUTOMATION, PACKAGES, CHANNEL, ROUTE, SILENCE))


@pytest.mark.slow
async def test_pages_show_a_lock_and_disable_what_would_change_the_object(
    run_host: RunHost, repository: Repository
) -> None:
    commit = repository.commit({"a.yaml": satellite(), "b.yaml": EVERY}, "All <b>of</b> it")
    host = await run_host(plugins=discover())
    async with (
        client(host, name="ann", rules=list(host.access.rules)) as ann,
        signed_in(host, ann) as browser,
    ):
        await ann.put("/api/secrets/secrets/ON_CALL", json={"value": "json://127.0.0.1:9"})
        given = await form(browser, "/gitops") | {"name": "shop", "url": repository.url}
        page = await browser.post("/gitops", data=given)
        assert page.status_code == 303, page.text
        await settled(ann, "shop", commit=commit)

        [edge] = (await ann.get(SATELLITES)).json()["satellites"]
        [check] = (await ann.get("/api/health-checks/checks")).json()["checks"]
        for path, button in {
            "/policy": '<button class="main" disabled>Save</button>',
            f"/satellites/{edge['id']}": '<fieldset class="plain" disabled>',
            f"/checks/{check['id']}": '<fieldset class="within" disabled>',
            f"/checks/{check['id']}/edit": 'value="save" disabled>',
            "/automations/greet": '<fieldset class="plain" disabled>',
            "/automations/greet/edit": 'value="save" disabled>',
            "/packages/sets/web-tools": '<fieldset class="plain" disabled>',
            "/notifications/channels/on-call": '<fieldset class="plain" disabled>',
            "/notifications/routes/new-satellites": '<fieldset class="plain" disabled>',
        }.items():
            text = (await browser.get(path)).text
            assert "comes from the git source shop (" in text, path
            assert "“All &lt;b&gt;of&lt;/b&gt; it”" in text, path
            assert 'href="/gitops/shop"' in text, path
            assert button in text, path
        # Of a list, what comes from git has a lock in its row, and no button.
        for path, action in {
            f"/checks/{check['id']}": f"/checks/{check['id']}/silences/",
            f"/satellites/{edge['id']}/silence": f"/satellites/{edge['id']}/silences/",
            "/packages": "/packages/remove",
        }.items():
            text = (await browser.get(path)).text
            assert re.search(r'<td[^>]*>\s*<p class="lost lock"', text), path
            assert f'action="{action}' not in text, path
        written = {"packages": "flask", "ecosystem": "pypi", "set": "web-tools", "reason": "why"}
        page = await browser.post("/packages/allow", data=await form(browser, "/packages") | written)
        assert page.status_code == 422
        assert "comes from the git source shop" in page.text.partition('id="error-set"')[2]
        assert "\nflask</textarea>" in page.text
        for path in ("/checks/new", "/automations/new", "/notifications/new-route"):
            assert "comes from the git source" not in (await browser.get(path)).text

        # A form that is sent all the same is refused, in words.
        refused = await browser.post(f"/checks/{check['id']}/delete", data=await form(browser, "/gitops"))
        assert refused.status_code == 409
        assert "comes from the git source shop" in refused.text

        one, every = (await browser.get("/gitops/shop")).text, (await browser.get("/gitops")).text
        assert "in sync" in one
        assert "NotificationRoute" in one
        assert commit[:12] in every
        repository.commit({"a.yaml": "kind: ["}, "Bad")
        await synced(ann, "shop")
        overview = (await browser.get("/")).text
        assert "The git repository shop cannot be followed: a.yaml:" in overview
        status = (await ann.get("/api/host/status")).json()
        assert [one["at"] for one in status["attention"] if "git repository" in one["text"]] == [
            "/gitops/shop"
        ]
        metrics = (await ann.get("/metrics")).text
        assert 'ringfence_gitops_sources{state="failed"} 1.0' in metrics


@pytest.mark.slow
async def test_sources_that_meet_what_is_released_and_who_may(
    run_host: RunHost, repository: Repository, tmp_path: Path
) -> None:
    first = repository.commit({"a.yaml": satellite()}, "First")
    other = Repository(tmp_path / "other")
    second = other.commit({"a.yaml": satellite(region="us"), "b.yaml": satellite("edge-2")}, "Second")
    host = await run_host(plugins=discover())
    rules = list(host.access.rules)
    async with client(host, name="ann", rules=rules) as ann:
        await put(ann, "shop", repository.url)
        await settled(ann, "shop", commit=first)

        # Two sources that claim one name: the later one is refused as a whole.
        await put(ann, "other", other.url)
        meets = await settled(
            ann, "other", error="Satellite edge-1 belongs to git:shop, and not to git:other"
        )
        assert (meets["commit"], await regions(ann)) == (None, {"edge-1": "eu"})
        async with signed_in(host, ann) as browser:
            page = (await browser.get("/gitops/shop")).text
            assert "<bdi>other</bdi> declares <bdi>Satellite edge-1</bdi> too" in page
        await change_in_database(host, "DELETE FROM satellite_satellites")
        await synced(ann, "other")
        assert await regions(ann) == {}
        await synced(ann, "shop")
        assert await regions(ann) == {"edge-1": "eu"}

        # In an emergency it is released, changed by hand, left alone, and given back.
        body = {"kind": "Satellite", "name": "edge-1"}
        assert (await ann.post("/api/gitops/release", json={**body, "reason": "it burns"})).status_code == 200
        [edge] = (await ann.get(SATELLITES)).json()["satellites"]
        assert (await ann.patch(f"{SATELLITES}/{edge['id']}", json={"region": "asia"})).status_code == 200
        await synced(ann, "shop")
        assert await regions(ann) == {"edge-1": "asia"}
        [released] = (await ann.get(RELEASED)).json()["released"]
        assert (released["source"], released["by"], released["reason"]) == ("shop", "ann", "it burns")
        assert (await ann.post("/api/gitops/release", json=body)).status_code == 404
        assert (await ann.post("/api/gitops/give-back", json=body)).json()["source"] == "shop"
        await synced(ann, "shop")
        assert await regions(ann) == {"edge-1": "eu"}
        async with signed_in(host, ann) as browser:
            given = await form(browser, "/gitops") | body
            sent = await browser.post("/gitops/released/release", data=given)
            assert (sent.status_code, sent.headers["location"]) == (303, "/gitops")
            assert "<bdi>Satellite</bdi> <bdi>edge-1</bdi>" in (await browser.get("/gitops")).text
            sent = await browser.post("/gitops/released/back", data=given)
            assert (sent.status_code, sent.headers["location"]) == (303, "/gitops/shop")
        changes = [one["givenBack"] for one in await told(host, "gitops-object-released")]
        assert changes == [False, True, False, True]

        # Once the first source is gone, the other one has it.
        await ann.delete(f"{SOURCES}/shop")
        await synced(ann, "other")
        await settled(ann, "other", commit=second)
        assert await regions(ann) == {"edge-1": "us", "edge-2": "eu"}

        await _secrets_signatures_and_rules(ann, host, other, tmp_path)


async def _secrets_signatures_and_rules(
    ann: httpx.AsyncClient, host: Any, other: Repository, tmp_path: Path
) -> None:
    # A secret that is missing is said; so is whose token has ended, and what they may not do.
    await put(ann, "other", other.url, tokenSecret="GONE")
    await settled(ann, "other", error="secret GONE does not exist")
    async with client(host, name="bob", rules=["gitops.source.manage", "gitops.source.read"]) as bob:
        refused = await bob.put(f"{SOURCES}/other", json={"url": other.url, "tokenSecret": "GONE"})
        assert (refused.status_code, refused.json()["rule"]) == (403, "secrets.secret.use")
        assert (await bob.post(f"{SOURCES}/other/sync")).status_code == 403
        await put(bob, "bobs", other.url)
        await settled(bob, "bobs", error="bob does not hold the access rule")
    [token] = [one for one in (await ann.get("/api/host/tokens")).json()["tokens"] if one["name"] == "bob"]
    assert (await ann.delete(f"/api/host/tokens/{token['id']}")).is_success
    await synced(ann, "bobs")
    await settled(ann, "bobs", error="acts for bob, whose API token has ended")

    # An older signed commit is not gone back to, unless somebody says so.
    key = tmp_path / "key"
    signers = f"ann@example.org {signing_key(key)}"
    old = other.commit({"b.yaml": satellite("edge-2", "old")}, "Old", at=1_700_000_100, key=key)
    new = other.commit({"b.yaml": satellite("edge-2", "new")}, "New", at=1_700_000_200, key=key)
    await put(ann, "other", other.url, allowedSigners=signers)
    assert (await settled(ann, "other", commit=new))["signedBy"] == "ann@example.org"
    other.git("reset", "--quiet", "--hard", old)
    other.push()
    await synced(ann, "other")
    await settled(ann, "other", error="is older than commit")
    assert (await regions(ann))["edge-2"] == "new"
    await synced(ann, "other", allowOlder=True)
    await settled(ann, "other", commit=old)
    other.commit({"b.yaml": satellite("edge-2", "unsigned")}, "Unsigned", at=1_700_000_300)
    await synced(ann, "other")
    await settled(ann, "other", error="is not signed")

    # A webhook has it looked at; one that wants a signature takes no other.
    assert (await ann.put("/api/secrets/secrets/HOOK", json={"value": "s3cret-of-hooks"})).is_success
    await put(ann, "other", other.url, webhookSecret="HOOK")
    await settled(ann, "other", commit=other.head())
    path = (await ann.post(f"{SOURCES}/other/webhook")).json()["path"]
    body = b'{"ref": "refs/heads/main"}'
    signature = hmac.new(b"s3cret-of-hooks", body, hashlib.sha256).hexdigest()
    newest = other.commit({"b.yaml": satellite("edge-2", "hooked")}, "Hooked")
    async with client(host, rules=()) as anybody:
        del anybody.headers["Authorization"]
        for headers, status in (
            ({}, 401),
            ({"X-Hub-Signature-256": f"sha256={signature[::-1]}"}, 401),
            ({"X-Gitlab-Token": "other"}, 401),
            ({"X-Hub-Signature-256": f"sha256={signature}"}, 202),
            ({"X-Gitlab-Token": "s3cret-of-hooks"}, 202),
        ):
            assert (await anybody.post(path, content=body, headers=headers)).status_code == status, headers
        large = await anybody.post(path, content=b"x" * (1024 * 1024 + 1))
        assert large.status_code == 413
        assert (await anybody.post(f"{path}x", content=body)).status_code == 404
    await settled(ann, "other", commit=newest)
    assert (await shown(ann, "other"))["webhookUsedAt"] is not None


async def form(browser: httpx.AsyncClient, path: str) -> dict[str, str]:
    """The field without which no form is taken."""
    text = (await browser.get(path)).text
    return {"csrf": text.partition('name="csrf" value="')[2].partition('"')[0]}
