"""Documents are applied on a real host: all of them or none, by whoever may, and told truthfully."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
from ringfence.host import Host
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client
from sqlalchemy import text

from tests.declaring.declaring import (
    CHANNEL,
    CHECK,
    EVERY,
    EXPORT,
    FILES,
    PACKAGES,
    POLICY,
    SATELLITE,
    apply,
    as_documents,
    changes,
    places,
)

SECRETS = "/api/secrets/secrets"


async def started(run_host: RunHost) -> Host:
    host = await run_host(plugins=discover())
    async with client(host) as admin:
        put = await admin.put(f"{SECRETS}/ON_CALL", json={"value": "json://127.0.0.1:9"})
        assert put.is_success, put.text
    return host


async def exported(caller: httpx.AsyncClient, *kinds: str) -> dict[str, Any]:
    answer = await caller.get(EXPORT, params={"kind": list(kinds)})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def events(host: Host) -> list[tuple[str, str | None, str | None]]:
    async with host.database.sessions() as session:
        rows = await session.execute(text("SELECT hook, actor, reason FROM events ORDER BY position"))
        return [tuple(row) for row in rows if not row.hook.startswith("access-")]


async def test_every_kind_is_applied_as_a_whole_and_an_export_changes_nothing(run_host: RunHost) -> None:
    host = await started(run_host)
    async with client(host) as ann:
        before = await events(host)
        foreseen = await apply(ann, FILES, dryRun=True)
        assert set(changes(foreseen).values()) <= {"created", "changed"}
        assert (await events(host), (await exported(ann, "Check", "Satellite"))["documents"]) == (before, [])

        applied = await apply(ann, FILES, source="apply:shop", reason="a shop")
        assert changes(applied) == changes(foreseen)
        assert [one["kind"] for one in applied["objects"]][:3] == [
            "SandboxPolicy",
            "ScriptPackages",
            "Satellite",
        ]
        new = [one for one in await events(host) if one not in before]
        assert {"satellite-registered", "health-check-changed", "automation-changed"} <= {
            one[0] for one in new
        }
        [actor] = {one[1] for one in new if one[0] == "satellite-registered"}
        ours = [one for one in new if one[1] == actor]
        assert {one[2] for one in ours} == {"a shop (applied from apply:shop)"}

        known = await events(host)
        again = await apply(ann, FILES, source="apply:shop")
        assert set(changes(again).values()) == {"unchanged"}
        export = await exported(ann)
        assert len(export["documents"]) >= len(EVERY)
        for files in (as_documents(export), {"all.yaml": export["text"]}):
            assert set(changes(await apply(ann, files, source="apply:shop")).values()) == {"unchanged"}
        assert [one for one in await events(host) if one[1] == actor] == [
            one for one in known if one[1] == actor
        ]
        assert "127.0.0.1:9" not in export["text"]

        fewer = {"one.yaml": f"{SATELLITE}---{POLICY}"}
        left = await apply(ann, fewer, source="apply:shop")
        assert {one["kind"] for one in left["undeclared"]} == {
            *("Automation", "Silence", "Check", "NotificationRoute", "NotificationChannel", "ScriptPackages")
        }
        pruned = await apply(ann, fewer, source="apply:shop", prune=True)
        assert [one["kind"] for one in pruned["objects"] if one["change"] == "deleted"] == [
            *("Automation", "Silence", "Check", "NotificationRoute", "NotificationChannel", "ScriptPackages")
        ]
        rest = await exported(ann, "Check", "Silence", "Automation", "NotificationChannel", "Satellite")
        assert [one["kind"] for one in rest["documents"]] == ["Satellite"]


async def test_what_fails_last_leaves_everything_as_it_is(run_host: RunHost) -> None:
    host = await started(run_host)
    async with client(host) as admin:
        before = await events(host)
        missing = CHECK.replace("edge-1", "nowhere").replace("scriptFile: scripts/web.sh", "script: 'true'")
        told = await apply(admin, {"a.yaml": POLICY, "b.yaml": SATELLITE, "c.yaml": missing}, status=422)
        [said] = places(told)
        assert said.startswith("c.yaml:10:25: there is no satellite nowhere that ")
        assert (await events(host), (await exported(admin, "Satellite"))["documents"]) == (before, [])

        wanting = CHECK.replace("scriptFile: scripts/web.sh", "script: 'true'")
        beyond = await apply(admin, {"a.yaml": SATELLITE, "c.yaml": wanting}, status=422)
        assert "the policy lacks" in places(beyond)[0]
        whole = await apply(admin, {"a.yaml": SATELLITE, "b.yaml": POLICY, "c.yaml": wanting})
        assert changes(whole)["Check/web"] == "created"

        drifted = SATELLITE.replace("region: eu", "region: us")
        told = await apply(admin, drifted)
        assert told["objects"][0]["differences"] == ['~ spec.region: "eu" → "us"']
        taken = await apply(admin, SATELLITE, status=409, source="ci:shop@1234")
        assert "belongs to cli" in taken["detail"]
        await apply(admin, SATELLITE, source="ci:shop@1234", takeOver=True)
        moved = await apply(admin, SATELLITE, source="ci:shop@5678")
        assert changes(moved) == {"Satellite/edge-1": "unchanged"}
        ended = await apply(admin, SATELLITE, status=409)
        assert "ci:shop@5678" in ended["detail"]

        page = (Path(__file__).parents[2] / "docs" / "configuration-as-code.md").read_text()
        files = dict(re.findall(r"^```(?:yaml|sh) (\S+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
        assert len(files) == 5
        assert len(changes(await apply(admin, files, dryRun=True))) == 8
        schemas = (await admin.get("/api/host/schemas")).json()["kinds"]
        for kind in (one["kind"] for one in schemas):
            assert f"| `{kind}` |" in page
            schema = (await admin.get(f"/api/host/schemas/{kind}")).json()
            assert schema["properties"]["kind"] == {"const": kind}


async def test_each_object_needs_the_rules_of_its_own_route(run_host: RunHost) -> None:
    host = await started(run_host)
    rules = ["satellite.satellite.manage", "satellite.satellite.place on env=dev"]
    async with client(host, name="bob", rules=rules) as bob:
        told = await apply(bob, f"{SATELLITE}---{POLICY}---{PACKAGES}", status=403)
        assert len(told["errors"]) == 2
        assert all("bob does not hold the access rule script-packages." in one for one in places(told))
        told = await apply(bob, SATELLITE, status=403)
        assert "satellite.satellite.place" in told["detail"]
        made = await apply(bob, SATELLITE.replace("env: prod", "env: dev"))
        assert made["objects"][0]["differences"] == [], "whoever may not see satellites is shown none"
        assert (await bob.get(EXPORT)).json()["documents"] == []
        assert (await bob.get(EXPORT, params={"kind": "Satellite"})).status_code == 403
    async with client(host, rules=["notifications.channel.manage"]) as carol:
        told = await apply(carol, CHANNEL, status=403)
        assert "secrets.secret.use" in told["detail"]


async def test_what_is_declared_no_more_is_told_to_those_alone_who_may_see_it(run_host: RunHost) -> None:
    host = await started(run_host)
    rules = ["notifications.channel.manage", "notifications.channel.read", "secrets.secret.use"]
    async with client(host) as ann, client(host, name="carol", rules=rules) as carol:
        await apply(ann, {"a.yaml": "---".join((SATELLITE, PACKAGES, CHANNEL))})
        other = {"a.yaml": CHANNEL.replace("on-call", "others")}
        left = await apply(carol, other)
        assert left["undeclared"] == [{"kind": "NotificationChannel", "name": "on-call"}]
        refused = await apply(carol, other, prune=True, status=403)
        assert "edge-1" not in str(refused)
        assert "web-tools" not in str(refused)


async def test_a_declared_satellite_has_no_token_until_it_is_claimed_once(run_host: RunHost) -> None:
    host = await started(run_host)
    async with client(host) as admin:
        applied = await apply(admin, SATELLITE)
        assert applied["objects"][0]["warnings"] == ["fetch its token: ringfence satellite claim edge-1"]
        assert "token" not in str(applied["objects"][0]["differences"])
        [found] = (await admin.get("/api/satellite/satellites")).json()["satellites"]
        address = f"/api/satellite/satellites/{found['id']}"
        async with client(host, rules=["satellite.satellite.manage"]) as stranger:
            assert (await stranger.post(f"{address}/claim")).status_code == 403
        claimed = await admin.post(f"{address}/claim")
        assert len(claimed.json()["token"]) > 40
        assert (await admin.post(f"{address}/claim")).status_code == 409
        assert (await admin.post(f"{address}/rotate-token")).status_code == 200
