"""What a plugin holds is changed there alone: every route that would change it elsewhere is refused, and says where."""

from __future__ import annotations

from typing import Any

import httpx
from ringfence import PluginContext, PluginInfo, hookimpl
from ringfence.declaring import ObjectHolder, Wanted, declarations
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.declaring.declaring import FILES, SATELLITE, apply, changes

SOURCE = "kept:shop@4f2a"
DEFINITION = "name: greet\ntriggers: [{hook: satellite-registered}]\nsteps: [{run_shell: {script: exit 0}}]\n"


class _Holder:
    def holds(self, source: str) -> bool:
        return source.startswith("kept:")

    async def sentence(
        self, session: AsyncSession, kind: str, name: str, source: str, place: str | None
    ) -> str:
        return f"{kind} {name} comes from {source}, {place}"

    def page(self, source: str) -> str | None:
        return None


class Keeper:
    """Applies documents by itself."""

    info = PluginInfo("keeper", "1.0")
    context: PluginContext

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        self.context = context
        context.services.extend(ObjectHolder, _Holder())

    async def keep(self, files: dict[str, str], **more: Any) -> dict[str, str]:
        holder = await self.context.access.named("keeper")
        assert holder is not None
        applied = await declarations(self.context).apply(
            Wanted(files, source=SOURCE, **more), holder.principal
        )
        return {f"{one.kind}/{one.name}": one.change for one in applied.outcomes}


async def test_every_way_to_change_what_a_plugin_holds_is_refused_and_names_the_file(
    run_host: RunHost,
) -> None:
    keeper = Keeper()
    host = await run_host(plugins=[*discover(), keeper])
    async with client(host, name="keeper", rules=list(host.access.rules)) as ann:
        put = await ann.put("/api/secrets/secrets/ON_CALL", json={"value": "json://127.0.0.1:9"})
        assert put.is_success, put.text
        assert set((await keeper.keep(FILES)).values()) <= {"created", "changed"}

        [satellite] = (await ann.get("/api/satellite/satellites")).json()["satellites"]
        [check] = (await ann.get("/api/health-checks/checks")).json()["checks"]
        [silence] = (await ann.get("/api/health-checks/silences")).json()["silences"]
        policy, packages = "/api/script-packages/sandbox-policy", "/api/script-packages/packages"
        entries, sets = f"{packages}/entries", f"{packages}/sets"
        notify, automation = "/api/notifications", "/api/automations/automations/greet"
        latest = {"If-Match": "*"}
        asked: list[tuple[str, str, str, Any]] = [
            ("SandboxPolicy", "PUT", policy, {"policy": {"enabled": False}}),
            ("SandboxPolicy", "PATCH", policy, {"policy": {"network": {"mode": "deny"}}}),
            ("SandboxPolicy", "POST", f"{policy}/revert", {"revision": 0}),
            ("Satellite", "PATCH", f"/api/satellite/satellites/{satellite['id']}", {"region": "us"}),
            ("Satellite", "DELETE", f"/api/satellite/satellites/{satellite['id']}", None),
            ("Check", "PATCH", f"/api/health-checks/checks/{check['id']}", {"enabled": False}),
            ("Check", "PATCH", f"/api/health-checks/checks/{check['id']}", {"name": "other"}),
            ("Check", "DELETE", f"/api/health-checks/checks/{check['id']}", None),
            ("Silence", "DELETE", f"/api/health-checks/silences/{silence['id']}", None),
            ("ScriptPackages", "POST", entries, {"set": "web-tools", "packages": ["httpx"]}),
            ("ScriptPackages", "DELETE", f"{entries}?name=requests&set=web-tools", None),
            ("ScriptPackages", "DELETE", f"{sets}/web-tools", None),
            ("NotificationChannel", "PUT", f"{notify}/channels/on-call", {"address": "json://127.0.0.1:8"}),
            ("NotificationChannel", "PATCH", f"{notify}/channels/on-call", {"perHour": 5}),
            ("NotificationChannel", "DELETE", f"{notify}/channels/on-call", None),
            (
                "NotificationRoute",
                "PUT",
                f"{notify}/routes/new-satellites",
                {"change": True, "enabled": False},
            ),
            ("NotificationRoute", "DELETE", f"{notify}/routes/new-satellites", None),
            ("Automation", "PUT", automation, DEFINITION),
            ("Automation", "POST", f"{automation}/disable", None),
            ("Automation", "DELETE", automation, None),
        ]
        for kind, method, path, body in asked:
            sent = {"content": body} if isinstance(body, str) else {"json": body}
            answer = await ann.request(method, path, headers={} if automation in path else latest, **sent)
            assert answer.status_code == 409, (method, path, answer.text)
            told = answer.json()
            assert told["title"].startswith(kind), (method, path, told)
            assert (told["source"], told["file"], told["commit"]) == ("kept:shop", "all.yaml", "4f2a")
            assert f"comes from {SOURCE}, all.yaml:{told['line']}:" in told["detail"]

        assert set((await keeper.keep(FILES)).values()) == {"unchanged"}
        await _is_left_alone_by_other_sources(ann)


async def _is_left_alone_by_other_sources(ann: httpx.AsyncClient) -> None:
    taken = await apply(ann, SATELLITE, status=409, takeOver=True)
    assert f"belongs to kept:shop, and not to cli: Satellite edge-1 comes from {SOURCE}" in taken["detail"]
    posing = await apply(ann, SATELLITE, status=422, source="kept:shop")
    assert "is kept by a plugin" in posing["detail"]


async def test_what_is_disowned_or_left_is_anybodys_and_drift_is_told(run_host: RunHost) -> None:
    keeper = Keeper()
    host = await run_host(plugins=[*discover(), keeper])
    other = SATELLITE.replace("edge-1", "edge-2")
    async with client(host, name="keeper", rules=list(host.access.rules)) as ann:
        await keeper.keep({"a.yaml": SATELLITE, "b.yaml": other})
        of_keeper = declarations(keeper.context)
        gone = await of_keeper.disown(lambda kind, name, _: (kind, name) == ("Satellite", "edge-1"))
        assert gone == [("Satellite", "edge-1")]
        moved = SATELLITE.replace("region: eu", "region: us")
        assert changes(await apply(ann, moved)) == {"Satellite/edge-1": "changed"}
        left = await keeper.keep({"a.yaml": SATELLITE, "b.yaml": other}, leave=[("Satellite", "edge-1")])
        assert left == {"Satellite/edge-2": "unchanged"}

        async with host.database.sessions.begin() as session:
            await session.execute(text("UPDATE satellite_satellites SET region = 'us' WHERE name = 'edge-2'"))
        holder = await keeper.context.access.named("keeper")
        assert holder is not None
        wanted = Wanted({"b.yaml": other}, source=SOURCE, orphan=True)
        applied = await of_keeper.apply(wanted, holder.principal)
        assert [(one.name, one.change, one.is_drift) for one in applied.outcomes] == [
            ("edge-2", "changed", True)
        ]
        nothing = await of_keeper.apply(
            Wanted({"c.yaml": other.replace("edge-2", "edge-3")}, source=SOURCE, orphan=True),
            holder.principal,
        )
        assert nothing.orphaned == [("Satellite", "edge-2")]
        [two] = [
            one
            for one in (await ann.get("/api/satellite/satellites")).json()["satellites"]
            if one["name"] == "edge-2"
        ]
        assert (await ann.delete(f"/api/satellite/satellites/{two['id']}")).status_code == 204
