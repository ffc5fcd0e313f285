"""Fills a host with at least one of everything that a page is about, under names that are markup where names may be."""

from __future__ import annotations

from typing import Any

import httpx

WORDS = "<img src=x onerror=alert(1)> \u202egpj.exe"
AUTOMATION = """
name: restart-web
steps:
  - id: restart
    run_shell:
      script: echo restarted
"""


async def fill(admin: httpx.AsyncClient) -> None:
    """Make one of each through the API, as the administrator."""

    async def send(method: str, path: str, body: dict[str, Any]) -> Any:
        answer = await admin.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    await send("POST", "/api/host/tokens", {"name": WORDS, "rules": ["host.plugin.read"]})
    await send("PUT", "/api/secrets/secrets/API_TOKEN", {"value": "hunter2-hunter2"})
    await send("POST", "/api/satellite/satellites", {"name": "web-1", "region": "eu"})
    check = {
        "name": WORDS,
        "system": "web-1",
        "kind": "shell",
        "script": "echo fine",
        "intervalSeconds": 3600,
        "timeoutSeconds": 10,
        "runsOn": {"core": True},
    }
    await send("POST", "/api/health-checks/checks", check)
    await send("POST", "/api/automations/apply", {"text": AUTOMATION})
    await send("POST", "/api/automations/automations/restart-web/runs", {})
