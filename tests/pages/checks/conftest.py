"""A real host with the plugins that checks stand on, and what its checks have seen."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from ringfence.host import Host
from ringfence.plugins.discovery import Plugin
from ringfence.scripts import Health, Verdict
from ringfence.scripts.reading import read_metrics
from ringfence.testing import RunHost, client
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.results import Result
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_script_packages.plugin import ScriptPackagesPlugin
from ringfence_secrets.plugin import SecretsPlugin

from tests.health_checks.conftest import CHECKS, definition

READ = ["health-checks.check.read"]
MANAGE = [*READ, "health-checks.check.manage", "health-checks.check.run"]
HOUR = 3600.0
SELDOM = "0 0 1 1 *"
"""A schedule by which nothing runs in the time of a test."""


@dataclass(slots=True)
class Fleet:
    """The host, and its checks, which do not run by themselves."""

    host: Host

    async def create(self, **fields: Any) -> str:
        """A check; its id."""
        async with client(self.host) as api:
            answer = await api.post(
                CHECKS, json=definition(**{"intervalSeconds": None, "cron": SELDOM, **fields})
            )
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

    async def register(self, name: str, **fields: Any) -> str:
        """A satellite; its id."""
        async with client(self.host) as api:
            answer = await api.post(
                "/api/satellite/satellites", json={"name": name, "region": "eu", **fields}
            )
            assert answer.status_code == 201, answer.text
            return str(answer.json()["satellite"]["id"])

    async def shown(self, check: str) -> dict[str, Any]:
        """A check as the API tells it."""
        async with client(self.host) as api:
            found: dict[str, Any] = (await api.get(f"{CHECKS}/{check}")).json()
            return found

    async def report(
        self,
        check: str,
        status: str,
        message: str = "",
        *,
        place: str = "core",
        ago: float = 0.0,
        latency: float | None = 12.0,
        metrics: dict[str, Any] | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """A result, as if it had come so many seconds ago."""
        (plugin,) = (one.plugin for one in self.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
        result = Result(
            UUID(check),
            place,
            "web-1",
            Verdict(Health(status), message, read_metrics(metrics or {}).by_name),
            latency,
            detail or {},
            dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ago),
        )
        assert await plugin._results.store(result)


@pytest.fixture
async def fleet(run_host: RunHost) -> Fleet:
    plugins: list[Plugin] = [ScriptPackagesPlugin(), SatellitePlugin(), SecretsPlugin(), HealthChecksPlugin()]
    return Fleet(await run_host(plugins=plugins))


def fields_of(page: str) -> dict[str, str]:
    """What the fields of the form that is edited hold."""
    (form,) = re.findall(r'<form method="post" action="/checks/(?:new|[^"]*/edit)">(.*?)</form>', page, re.S)
    found = {
        name: html.unescape(value)
        for name, value in re.findall(r'<input[^>]*? name="(\w+)"[^>]*? value="([^"]*)"', form)
    }
    for name in re.findall(r'<input[^>]*? name="(\w+)" type="checkbox"', form):
        if not re.search(rf'name="{name}" type="checkbox" value="yes" checked', form):
            found.pop(name, None)
    found |= {
        name: html.unescape(value)
        for name, value in re.findall(r'<textarea[^>]*? name="(\w+)"[^>]*>\n?(.*?)</textarea>', form, re.S)
    }
    for name, options in re.findall(r'<select[^>]*? name="(\w+)"[^>]*>(.*?)</select>', form, re.S):
        chosen = re.search(r'<option value="([^"]*)" selected>', options)
        found[name] = chosen[1] if chosen else re.findall(r'<option value="([^"]*)"', options)[0]
    return found


def numbers(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found
