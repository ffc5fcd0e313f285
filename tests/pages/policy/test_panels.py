"""What other plugins add to the policy's page: how far a change is, and what checks were refused on the network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ringfence.host import Host
from ringfence.testing import RunHost, client
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin
from sqlalchemy import text

from tests.pages.conftest import Browse
from tests.pages.policy.conftest import POLICY

RULES = {
    "policy": "script-packages.script-sandbox.manage",
    "fleet": "satellite.satellite.read",
    "checks": "health-checks.check.read",
}
NAME = "<b>edge</b>"


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(
        plugins=[ScriptPackagesPlugin(), SatellitePlugin(), SecretsPlugin(), HealthChecksPlugin()]
    )


@pytest.fixture
async def http(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as http:
        yield http


async def execute(host: Host, statement: str, **values: Any) -> None:
    async with host.runtime.database.sessions.begin() as session:
        await session.execute(text(statement), values)


async def register(http: httpx.AsyncClient, name: str) -> str:
    answer = await http.post("/api/satellite/satellites", json={"name": name, "region": "eu"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["satellite"]["id"])


async def appear(host: Host, id: str, revision: int | None, downgrades: str = "[]") -> None:
    """Have a satellite be online and on a revision, as its reports would."""
    await execute(
        host,
        "UPDATE satellite_satellites SET connection = gen_random_uuid(), instance = :instance, "
        "last_heartbeat_at = now(), applied_revision = CAST(:revision AS bigint), applied_at = now(), "
        "downgrades = CAST(:downgrades AS jsonb) WHERE id = CAST(:id AS uuid)",
        id=id,
        revision=revision,
        downgrades=downgrades,
        instance=host.runtime.instance_id,
    )


async def test_the_rollout_says_how_many_have_it_and_who_lags_and_why(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    assert (await http.patch(POLICY, json={"policy": {"resources": {"cpuSeconds": 5}}})).status_code == 200
    browser = await browse(host)
    first, second, third = [await register(http, name) for name in (NAME, "quick", "weak")]
    page = (await browser.get("/policy")).text
    assert "No satellite is online; 3 get revision 1 when they connect" in page
    await appear(host, first, 0)
    await appear(host, second, 1)
    await appear(host, third, 1, '[{"layer": "network", "reason": "no <i>nft</i>"}]')
    page = (await browser.get("/policy?fragment=satellite.rollout")).text
    assert "2 of 3 online satellites have revision 1" in page
    assert "<bdi>&lt;b&gt;edge&lt;/b&gt;</bdi>" in page
    assert "It still uses revision 0." in page
    assert "1 satellite refuses every run" in page
    assert "network: no &lt;i&gt;nft" in page
    await appear(host, first, 1)
    done = (await browser.get("/policy?fragment=satellite.rollout")).text
    assert "3 of 3 online satellites have revision 1" in done


async def test_what_checks_were_refused_is_named_with_a_link_that_fills_in_the_form(
    host: Host, browse: Browse, http: httpx.AsyncClient
) -> None:
    browser = await browse(host)
    assert "No refused connections" in (await browser.get("/policy")).text
    check = {
        "name": "<i>shop</i>",
        "system": "web-1",
        "kind": "shell",
        "script": "true",
        "intervalSeconds": 3600,
        "timeoutSeconds": 5,
        "runsOn": {"core": False, "tags": ["none"]},
    }
    made = await http.post("/api/health-checks/checks", json=check)
    assert made.status_code == 201, made.text
    for host_name, hours in (("api.example.com", 1), ("old.example.com", 30)):
        await execute(
            host,
            "INSERT INTO health_checks_destinations "
            "(check_id, ran_on, outcome, protocol, host, port, tries, runs, first_at, last_at) VALUES "
            "(CAST(:check AS uuid), 'core', 'refused', 'tcp', :name, 443, 7, 1, now(), "
            "now() - make_interval(hours => :hours))",
            check=made.json()["id"],
            name=host_name,
            hours=hours,
        )
    page = (await browser.get("/policy?fragment=health-checks.suggestions")).text
    assert "<bdi>api.example.com:443</bdi>" in page
    assert "7 times" in page
    assert "<bdi>&lt;i&gt;shop&lt;/i&gt;</bdi></a> (7)" in page
    assert 'href="/policy?allow=api.example.com%3A443"' in page
    assert "old.example.com" not in page, "that was before the last day"
    filled = (await browser.get("/policy?allow=api.example.com%3A443")).text
    assert "Filled in, and not saved yet" in filled
    assert "scripts may connect to api.example.com:443" in filled
    assert (await http.get(POLICY)).json()["revision"] == 0


async def test_each_panel_is_for_those_alone_who_may_see_what_it_is_about(host: Host, browse: Browse) -> None:
    policy, fleet, checks = RULES["policy"], RULES["fleet"], RULES["checks"]
    browsers = []
    for rules, rollout, refused in (
        ([policy], False, False),
        ([policy, fleet], True, False),
        ([policy, checks], False, True),
        ([policy, f"{fleet} on env=dev"], False, False),
    ):
        browsers.append(await browse(host, rules=rules))
        page = (await browsers[-1].get("/policy")).text
        assert (">Rollout</h2>" in page, ">Refused on the network</h2>" in page) == (rollout, refused), rules
    assert (await (await browse(host, rules=[fleet, checks])).get("/policy")).status_code == 403
