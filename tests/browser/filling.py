"""Fills a host with at least one of everything that a page is about, under names that are markup where names may be."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from uuid import UUID

from ringfence.scripts import Health, Verdict
from ringfence.scripts.reading import read_metrics
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.results import Result
from ringfence_satellite.protocol import Authenticate, RunFinished
from sqlalchemy import text
from websockets.asyncio.client import connect

from tests.browser.worlds import World
from tests.pages.own.probe import TOIL, Note, Probe, Work, toiled
from tests.satellite.instances import Peer
from tests.waiting import until_it

WORDS = "<img src=x onerror=alert(1)> \u202egpj.exe"
SELDOM = "0 0 1 1 *"
"""A schedule by which nothing runs in the time of a test."""
PLACES = 27
"""More places than a check's page shows."""
AUTOMATION = """
name: restart-web
inputs:
  reason: {type: string, default: none}
triggers:
  - webhook: {}
steps:
  - id: restart
    run_shell:
      script: echo restarted
"""


@dataclass(frozen=True)
class Filled:
    """What was made, by its ids."""

    check: str
    satellites: list[str]
    """All but the last carry the label env=dev."""
    tokens: list[str]
    """The satellites' own."""
    run: str
    """A run of a script that waits for its satellite."""
    automation_run: str
    job: str
    """One that has failed."""


def seen(words: str) -> str:
    """The words as a name may have them, in which nothing is that cannot be seen."""
    return re.sub("[\u200b\u202e]", "", words)


async def fill(world: World, words: str = WORDS) -> Filled:
    """Make one of each through the API, as the administrator, and what only machines tell."""
    send = world.send
    await send("POST", "/api/host/tokens", {"name": seen(words)[:100], "rules": ["host.plugin.read"]})
    await send("PUT", "/api/secrets/secrets/API_TOKEN", {"value": "hunter2-hunter2"})
    await send("PUT", "/api/notifications/channels/ops", {"address": "json://127.0.0.1:9/x"})
    if "gitops" in {one.info.id for one in world.host.plugins}:
        await send("PUT", "/api/gitops/sources/shop", {"url": "https://127.0.0.1:9/shop.git"})
    satellites, tokens = [], []
    for number in range(1, PLACES + 2):
        label = "dev" if number <= PLACES else "prod"
        body = {
            "name": f"web-{number}",
            "region": seen(words)[:60],
            "labels": {"env": label},
            "vars": {"v": words},
        }
        made = await send("POST", "/api/satellite/satellites", body)
        satellites.append(made["satellite"]["id"])
        tokens.append(made["token"])
    check = {
        "name": seen(words)[:100],
        "system": "web-1",
        "kind": "shell",
        "script": f"echo '{words}'",
        "cron": SELDOM,
        "timeoutSeconds": 10,
        "runsOn": {"core": True, "selector": "env=dev"},
        "secrets": {"KEY": "{API_TOKEN}"},
    }
    made = await send("POST", "/api/health-checks/checks", check)
    await report(world, made["id"], words)
    silence = {"check": made["id"], "forSeconds": 3600, "reason": words}
    await send("POST", "/api/health-checks/silences", silence)
    await send("POST", "/api/automations/apply", {"text": AUTOMATION, "reason": words})
    run = await send("POST", "/api/automations/automations/restart-web/runs", {"inputs": {"reason": words}})
    allowed = {"packages": ["requests>=2"], "set": "tools", "reason": words}
    await send("POST", "/api/script-packages/packages/entries", allowed)
    policy = {"policy": {"network": {"mode": "deny"}}, "reason": words}
    await world.api.put("/api/script-packages/sandbox-policy", json=policy, headers={"if-match": "*"})
    await answer_a_run(world, satellites[0], tokens[0], words)
    script = {"kind": "shell", "script": f"echo '{words}'"}
    asked = await send("POST", f"/api/satellite/satellites/{satellites[0]}/runs", script)
    return Filled(made["id"], satellites, tokens, asked["id"], run["id"], await fail_something(world, words))


def plugin_of(world: World, kind: type[HealthChecksPlugin]) -> HealthChecksPlugin:
    (plugin,) = (one.plugin for one in world.host.plugins if isinstance(one.plugin, kind))
    return plugin


async def report(world: World, check: str, words: str, *, status: str = "unhealthy") -> None:
    """A result of a check on the host itself, with these words wherever a script has a say."""
    metrics = {words[:60]: 12.0}
    detail = {"stdout": words, "stderr": words, "notes": [words], "stopped": words}
    verdict = Verdict(Health(status), words, read_metrics(metrics).by_name)
    result = Result(UUID(check), "core", "web-1", verdict, 12.0, detail, dt.datetime.now(dt.UTC))
    assert await plugin_of(world, HealthChecksPlugin)._results.store(result)


async def answer_a_run(world: World, satellite: str, token: str, words: str) -> None:
    """Have a run end whose satellite answers with these words wherever it has a say."""
    address = world.url.replace("http", "ws") + "/api/ws/satellite"
    script = {"kind": "shell", "script": "echo done"}
    async with connect(address, compression=None, close_timeout=1) as socket:
        peer = Peer(socket)
        await peer.say(Authenticate(client_id=satellite, token=token, version=words[:30]))
        await peer.hear("authenticated")
        asked = await world.send("POST", f"/api/satellite/satellites/{satellite}/runs", script)
        while (frame := await peer.hear())["type"] != "run_script":
            pass
        outcome = {
            "exitCode": 0,
            "stdout": words,
            "stderr": words,
            "value": {words: words},
            "sandbox": {
                "enforced": {words: True, "network": True},
                "mechanisms": {"network": words},
                "downgrades": [{"layer": words, "reason": words}],
            },
        }
        await peer.say(RunFinished.of(frame["runId"], outcome))

        async def ended() -> bool:
            run = await world.send("GET", f"/api/satellite/runs/{asked['id']}")
            return bool(run["state"] == "ended")

        await until_it(ended, "the run ends")


async def fail_something(world: World, words: str) -> str:
    """Have an event and a job fail, and another job wait; the id of the job that failed."""
    (probe,) = (one.plugin for one in world.host.plugins if isinstance(one.plugin, Probe))
    await probe.context.emit_hook(toiled, Note(words=words), standalone=True, reason=words)
    await probe.context.enqueue(TOIL, Work(how="later"), after_seconds=36000)
    job = await probe.context.enqueue(TOIL, Work(how="fail"))

    async def failed() -> bool:
        async with world.host.database.sessions() as session:
            jobs = await session.execute(text("SELECT count(*) FROM jobs WHERE status = 'failed'"))
            events = await session.execute(text("SELECT count(*) FROM failed_events"))
            return bool(jobs.scalar_one() and events.scalar_one())

    await until_it(failed, "a job and an event fail")
    return str(job)
