"""Fills a host, through its API, with what a small shop would have: checks, automations, secrets, people's tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from ringfence.host import Host
from sqlalchemy import text

from tests.lifelike.fleet import Fleet
from tests.lifelike.seen import MINUTE, Course, store

HOURLY = "7 * * * *"
"""Nobody runs them on satellites that are only spoken for; their results are not stale for an hour."""
ROLLING_RESTART = """
name: restart-shop
description: Restart the shop's web servers, one region after the other
inputs:
  reason: {type: string, default: deploy}
  drain_seconds: {type: integer, default: 2}
triggers:
  - hook: health-state-changed
    filter: event.status == "unhealthy" && event.checkName == "shop-checkout"
steps:
  - id: drain
    run_shell:
      script: |
        echo "draining for $DRAIN s: $REASON"
        for zone in fra iad sin; do echo "$zone: 2 of 2 are drained"; done
      env: {DRAIN: "{{ inputs.drain_seconds }}", REASON: "{{ inputs.reason }}"}
  - parallel:
      branches:
        - - id: europe
            run_shell: {script: 'echo "web-fra-1 restarted"; echo "web-fra-2 restarted"'}
        - - id: america
            run_shell: {script: 'echo "web-iad-1 restarted"; echo "web-iad-2: slow to stop" >&2'}
  - choose:
      - when: artifacts.europe.exitCode == 0 && artifacts.america.exitCode == 0
        steps:
          - id: verify
            run_shell: {script: 'echo "checkout answers 200 in 84 ms"'}
      - when: "true"
        steps:
          - notify: {channel: ops, text: "the restart has failed"}
"""
CLEAN_UP = """
name: clean-up-builds
description: Delete build directories that are older than a week
triggers:
  - cron: "15 3 * * *"
steps:
  - id: look
    run_shell: {script: 'echo "build-fra-1: cannot remove /srv/builds/4711: permission denied" >&2; exit 1'}
"""
PAGE_ONCALL = """
name: page-on-call
description: Tell whoever is on call of a database that is down
triggers:
  - hook: health-state-changed
    filter: event.status == "unhealthy" && event.system == "postgres"
steps:
  - id: look
    run_shell: {script: 'echo "replication lag: 3 s"'}
"""


REFUSED = text("""
    INSERT INTO health_checks_destinations
    VALUES (:check, :place, 'refused', 'tcp', :host, 443, :tries, 3, now() - interval '3 hours', now())
""")


@dataclass
class Filling:
    """Makes one thing after the other."""

    host: Host
    api: httpx.AsyncClient
    fleet: Fleet
    run: str = ""
    """A run of an automation with several steps."""

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask the API for something; what it answers."""
        answer = await self.api.request(method, path, json=body, headers=headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def configured(self) -> None:
        """What does not depend on satellites."""
        for name, value in {
            "SHOP_API_TOKEN": "a-token-of-the-shop",
            "PG_PASSWORD": "a-password",
            "DEPLOY_KEY": "a-key-for-deploys",
        }.items():
            await self.send("PUT", f"/api/secrets/secrets/{name}", {"value": value})
        for name, rules in {
            "anna": ["health-checks.check.read", "health-checks.check.manage", "satellite.satellite.read"],
            "ci-deploy": ["automations.automation.read", "automations.automation.run"],
            "status-page": ["health-checks.check.read"],
        }.items():
            await self.send("POST", "/api/host/tokens", {"name": name, "rules": rules})
        for name in ("ops", "night-shift"):
            await self.send(
                "PUT", f"/api/notifications/channels/{name}", {"address": "json://127.0.0.1:9/hook"}
            )
        await self.policy()
        allowed = {
            "packages": ["requests>=2.31", "psycopg[binary]"],
            "set": "default",
            "reason": "checks of the shop",
        }
        await self.send("POST", "/api/script-packages/packages/entries", allowed)
        await self.send(
            "POST", "/api/script-packages/packages/entries", {"packages": ["boto3"], "set": "reports"}
        )

    async def policy(self) -> None:
        """A policy with a history."""
        allow = ["shop.example.com:443", "pg.example.com:5432"]
        for change, reason in (
            ({"network": {"allow": allow[:1]}}, "the shop's own API"),
            ({"resources": {"cpuSeconds": 30, "memoryBytes": 268435456}}, "checks are small"),
            ({"network": {"allow": allow}}, "the database's check"),
        ):
            await self.send(
                "PATCH", "/api/script-packages/sandbox-policy", {"policy": change, "reason": reason}
            )

    async def checks(self) -> dict[str, str]:
        """The checks; their ids by name."""
        made = {}
        for name, system, selector, more in (
            (
                "shop-checkout",
                "shop",
                "role=web,env=prod",
                {"assertions": ["latencyMs < 0.4s else degraded"]},
            ),
            ("shop-search", "shop", "role=web,env=prod", {}),
            ("postgres-replication", "postgres", "role=db", {"secrets": {"PGPASSWORD": "{PG_PASSWORD}"}}),
            ("disk-var", "hosts", "role=db", {}),
            ("queue-depth", "queue", "role=queue", {}),
            ("certificate", "shop", "", {}),
            ("staging-shop", "staging", "env=staging", {"enabled": False}),
        ):
            body = {
                "name": name,
                "system": system,
                "kind": "shell",
                "script": "curl -fsS -o /dev/null -w '%{http_code}' https://shop.example.com/checkout\n",
                "cron": HOURLY,
                "timeoutSeconds": 20,
                "runsOn": {"core": True} if not selector else {"selector": selector},
                **more,
            }
            made[name] = (await self.send("POST", "/api/health-checks/checks", body))["id"]
        return made

    async def seen(self, checks: dict[str, str]) -> None:
        """A day of results, and what was refused on the network."""
        ids, five = self.fleet.ids, 5 * MINUTE
        courses = [
            Course(checks["shop-checkout"], ids["web-fra-1"], "shop", five, (9.5, 8.2), metric="requests"),
            Course(checks["shop-checkout"], ids["web-fra-2"], "shop", 6 * five),
            Course(checks["shop-checkout"], ids["web-iad-1"], "shop", five, (0.4, 0), usual_ms=130),
            Course(checks["shop-checkout"], ids["web-iad-2"], "shop", 6 * five, usual_ms=125),
            Course(checks["shop-checkout"], ids["web-sin-1"], "shop", 6 * five, (1.2, 0), "degraded", 210),
            Course(checks["shop-search"], ids["web-fra-1"], "shop", 6 * five, usual_ms=45),
            Course(checks["shop-search"], ids["web-iad-1"], "shop", 6 * five, (14, 13), usual_ms=60),
            Course(checks["postgres-replication"], ids["db-fra-1"], "postgres", 6 * five, usual_ms=12),
            Course(checks["postgres-replication"], ids["db-iad-1"], "postgres", 6 * five, usual_ms=15),
            Course(checks["disk-var"], ids["db-fra-1"], "hosts", five, metric="used", usual_ms=8),
            Course(checks["disk-var"], ids["db-iad-1"], "hosts", 6 * five, usual_ms=8, metric="used"),
            Course(checks["queue-depth"], ids["queue-fra-1"], "queue", 6 * five, usual_ms=20),
            Course(checks["shop-search"], ids["web-sin-1"], "shop", 6 * five, usual_ms=75),
            Course(checks["certificate"], "core", "shop", 12 * five, usual_ms=150),
        ]
        await store(self.host, courses)
        async with self.host.database.sessions.begin() as session:
            for check, place, name, tries in (
                ("shop-checkout", "web-fra-1", "cdn.example.com", 38),
                ("shop-checkout", "web-iad-1", "cdn.example.com", 21),
                ("queue-depth", "queue-fra-1", "metrics.example.net", 4),
            ):
                values = {"check": checks[check], "place": ids[place], "host": name, "tries": tries}
                await session.execute(REFUSED, values)
        silence = {
            "check": checks["queue-depth"],
            "forSeconds": 14400,
            "reason": "the queue moves to new disks",
        }
        await self.send("POST", "/api/health-checks/silences", silence)

    async def automated(self) -> None:
        """Automations, and runs of them that have ended."""
        for one in (ROLLING_RESTART, CLEAN_UP, PAGE_ONCALL):
            await self.send("POST", "/api/automations/apply", {"text": one, "reason": "first version"})
        await self.ran("restart-shop", {"reason": "release 2026.31"})
        self.run = await self.ran("restart-shop", {"reason": "certificate was renewed"})
        await self.ran("clean-up-builds", {})
        await self.ran("page-on-call", {})

    async def ran(self, name: str, inputs: dict[str, Any]) -> str:
        """Run an automation to its end; the run's id."""
        run = await self.send("POST", f"/api/automations/automations/{name}/runs", {"inputs": inputs})
        for _ in range(6):
            found = await self.send("GET", f"/api/automations/runs/{run['id']}?wait=20")
            if found.get("endedAt"):
                break
        return str(run["id"])

    async def scripts(self) -> None:
        """Scripts that were run on satellites by hand."""
        for name in ("web-fra-1", "web-iad-1"):
            script = {"kind": "shell", "script": "systemctl is-active nginx shop-api shop-jobs\n"}
            await self.send("POST", f"/api/satellite/satellites/{self.fleet.ids[name]}/runs", script)


@asynccontextmanager
async def filled(host: Host, url: str) -> AsyncIterator[Filling]:
    """The host has all of it, and its satellites are connected, for as long as the block runs."""
    token = host.data_dir.admin_token_path.read_text().strip()
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as api:
        fleet = Fleet(api, url)
        filling = Filling(host, api, fleet)
        await filling.configured()
        await fleet.register()
        async with fleet.connected():
            checks = await filling.checks()
            await filling.seen(checks)
            await filling.automated()
            await filling.scripts()
            change = {
                "network": {"allow": ["shop.example.com:443", "pg.example.com:5432", "hooks.example.com:443"]}
            }
            body = {"policy": change, "reason": "automations call the deploy hook"}
            await filling.send("PATCH", "/api/script-packages/sandbox-policy", body)
            await asyncio.sleep(0)
            yield filling
