"""Two people save the same form at once: one of them is told, and the other's change is there as it was saved."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from ringfence.host import Host
from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client
from ringfence_script_packages import previewing

from tests.pages.conftest import Browse
from tests.pages.untouched import form_at
from tests.sandbox.hosts import linux

AUTOMATION = "name: web\nsteps:\n  - id: one\n    run_shell:\n      script: echo one\n"
CHECK = {"name": "disk", "system": "web", "kind": "shell", "script": "echo 1", "intervalSeconds": 3600}
ROUTE = "/notifications/routes/failing-checks"


@pytest.fixture
async def host(run_host: RunHost, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(previewing, "probe", linux)
    return await run_host(plugins=discover())


async def made(admin: httpx.AsyncClient) -> dict[str, tuple[str, str, str]]:
    """Each form: the page that it is on, where it is sent, and the field that both people change."""

    async def send(method: str, path: str, body: dict[str, Any]) -> Any:
        answer = await admin.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    satellite = await send("POST", "/api/satellite/satellites", {"name": "web-1", "region": "eu"})
    id = satellite.get("satellite", satellite)["id"]
    check = await send(
        "POST", "/api/health-checks/checks", {**CHECK, "timeoutSeconds": 9, "runsOn": {"core": True}}
    )
    await send("POST", "/api/automations/apply", {"text": AUTOMATION})
    channel = {"address": "json://127.0.0.1:9/x"}
    await send("PUT", "/api/notifications/channels/ops", channel)
    return {
        "policy": ("/policy", "/policy", "resources.cpuSeconds"),
        "satellite": (f"/satellites/{id}", f"/satellites/{id}", "region"),
        "check": (f"/checks/{check['id']}/edit", f"/checks/{check['id']}/edit", "system"),
        "automation": ("/automations/web/edit", "/automations/web/edit", "text"),
        "channel": ("/notifications/channels/ops", "/notifications/channels/ops", "perHour"),
        "route": (ROUTE, ROUTE, "againSeconds"),
    }


@pytest.mark.slow
async def test_of_two_saves_at_once_one_is_told_of_the_other(host: Host, browse: Browse) -> None:
    people = [await browse(host), await browse(host)]
    async with client(host) as admin:
        forms = await made(admin)
    for kind, (page, action, field) in forms.items():
        for turn in range(3):
            # Both have opened the form, and change the same field of it.
            fields = [form_at((await one.get(page)).text, action) for one in people]
            for number, one in enumerate(fields):
                value = str(50 - 2 * turn - number)  # Stricter each time: nothing has to be agreed to.
                one[field] = one[field].replace("echo", f"echo {value}") if field == "text" else value
                one["reason"] = "because"
            sent = [one.post(action, given) for one, given in zip(people, fields, strict=True)]
            answers = await asyncio.gather(*sent)
            statuses = sorted(one.status_code for one in answers)
            assert statuses[0] == 303, f"{kind}: one is saved"
            assert statuses[1] in (409, 412), f"{kind}: the other is told, and was answered with {statuses}"
            winner = next(fields[at] for at, one in enumerate(answers) if one.status_code == 303)
            now = form_at((await people[0].get(page)).text, action)
            assert now[field] == winner[field], f"{kind}: what was saved is there"
