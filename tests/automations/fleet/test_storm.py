"""Three instances and ten agents in processes of their own, killed at random while events start automations.

Each script says to a server of the test's own that it has begun, and each message comes to one; so what has happened is
counted by those to whom it happened, and compared with what the fleet has recorded.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from ringfence.storage.embedded import EmbeddedPostgres

from tests.automations.fleet.marks import SCRIPT, Marks, marks
from tests.automations.fleet.storm import TOLD
from tests.notifications.receivers import Inbox, http_inbox
from tests.primitives import requires
from tests.satellite.fleet import Agent, Gateway, Killed, agent_behind, gateway
from tests.satellite.instances import POLICY, SATELLITES, Registered
from tests.waiting import in_time, until_it

EVENTS = int(os.environ.get("RINGFENCE_EVENTS", "24"))
"""How many events. With many the fleet has the settings as shipped; `-o faulthandler_timeout=0` lets 1,000 last."""
IS_LARGE = EVENTS >= 200
EVENTS_PER_SECOND = 2.0 if IS_LARGE else 4.0
KILL_SECONDS = (2.0, 12.0) if IS_LARGE else (1.0, 4.0)
LEAST_KILLS = 3
INSTANCES, AGENTS = 3, 10 if IS_LARGE else 4
KEYS = 8
PATIENCE_SECONDS = 3600.0 if IS_LARGE else 600.0
COURSES = ("in-order", "told", "side-by-side", "in-order", "in-order", "side-by-side")
"""Which automation each event is for, in turn."""
PROGRAM = "tests.automations.fleet.instance_program"

pytestmark = [pytest.mark.slow, requires("user namespaces")]


def automations(port: int) -> str:
    """Three of them, each with three steps on satellites; `told` has two steps on the instance too, and tells of it."""
    script = SCRIPT.replace("\n", "\n          ")

    def step(id: str, on: str, then: str = "") -> str:
        return f"""
  - id: {id}
    {then}
    run_script:
      kind: bash
      timeout: 10m
      args: ["{port}", {id}]
      {on}
      script: |
          {script}"""

    def steps(*more: str) -> str:
        on = 'on: "agent-{{{{ (event.n + {}) % {} }}}}"'
        return "".join(
            (
                step("one", on.format(0, AGENTS)),
                *more,
                step("two", on.format(3, AGENTS), "onInterrupted: retry"),
                step("three", on.format(7, AGENTS), "onInterrupted: fail"),
            )
        )

    def automation(name: str, mode: str, steps: str) -> str:
        trigger = f"triggers: [{{hook: gust-came, filter: event.course == '{name}'}}]"
        return f"name: {name}\n{trigger}\n{mode}\nsteps:{steps}\n"

    told = """
  - notify: {channel: ops, title: "gust {{ event.n }}", text: "it is over"}"""
    here = (
        step("once", "", "onInterrupted: fail\n    continueOnError: true"),
        step("again", "", "onInterrupted: retry\n    continueOnError: true"),
    )
    return "\n---\n".join(
        (
            automation("in-order", 'mode: queued\nconcurrencyKey: "{{ event.key }}"', steps()),
            automation("side-by-side", "mode: parallel\nmax: 10", steps()),
            automation("told", "mode: parallel\nmax: 10", steps(*here) + told),
        )
    )


@dataclass
class Fleet:
    """All that runs, and what is known of it."""

    url: str
    instances: list[Killed]
    front: Gateway
    api: httpx.AsyncClient
    marks: Marks
    inbox: Inbox
    chance: random.Random
    agents: list[Agent] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    left: str = ""

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database has."""
        async with await psycopg.AsyncConnection.connect(self.url.replace("+psycopg", "")) as connection:
            return await (await connection.execute(query)).fetchall()

    async def ask(self, method: str, path: str, **given: Any) -> Any:
        """Ask an instance that lives, again and again until one has answered."""

        async def asked() -> httpx.Response | None:
            with contextlib.suppress(httpx.HTTPError):
                answer = await self.api.request(method, path, **given)
                if answer.status_code < 500:
                    return answer
            return None

        answer = await until_it(asked, f"{method} {path} is answered", pause=0.2)
        assert answer is not None
        assert answer.is_success, answer.text
        return answer.json()

    async def tell(self, numbers: range, pace: float) -> None:
        """Have these events happen, one after the other."""
        for n in numbers:
            gust = {"n": n, "course": COURSES[n // KEYS % len(COURSES)], "key": f"key-{n % KEYS}"}
            await self.ask("POST", "/api/storm/gusts", json=gust)
            await asyncio.sleep(self.chance.uniform(0, 2 * pace))

    async def kill_instances(self, telling: asyncio.Future[Any]) -> None:
        """Kill one after the other, and start it again, until all is told."""
        while not (telling.done() and self.done["instances killed"] >= LEAST_KILLS):
            await asyncio.sleep(self.chance.uniform(*KILL_SECONDS))
            victim = self.chance.choice(self.instances)
            await victim.kill()
            self.done["instances killed"] += 1
            await asyncio.sleep(self.chance.uniform(0, 1))
            await self.start(victim)

    async def start(self, victim: Killed) -> None:
        """Start an instance, again if its database went while it started: so do those who look after services."""
        async with in_time("the instance starts"):
            while True:
                try:
                    return await victim.start()
                except AssertionError as error:
                    if "OperationalError" not in str(error):
                        raise
                    self.done["starts without a database"] += 1

    async def kill_agents(self, telling: asyncio.Future[Any]) -> None:
        """Kill one after the other, and start it again, until all is told."""
        while not (telling.done() and self.done["agents killed"] >= LEAST_KILLS):
            await asyncio.sleep(self.chance.uniform(*KILL_SECONDS))
            victim = self.chance.choice(self.agents)
            await victim.end(signal.SIGKILL)
            self.done["agents killed"] += 1
            await victim.start()

    async def all_has_ended(self) -> None:
        """Return once every run has ended."""

        async def all_have() -> bool:
            [(runs, running)] = await self.rows(
                "SELECT count(*), count(*) FILTER (WHERE ended_at IS NULL) FROM automations_runs"
            )
            self.left = f"{runs} runs, of which {running} have not ended"
            return runs >= EVENTS and not running

        async with in_time(lambda: f"every run has ended: {self.left}", seconds=PATIENCE_SECONDS):
            while not await all_have():
                await asyncio.sleep(0.5)


Disaster = Callable[[asyncio.Future[Any]], Coroutine[Any, Any, None]]
"""Goes on until the events, which it is given, have all been told."""


@asynccontextmanager
async def fleet_on(url: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """The fleet, with everything in it that the events need."""
    seed = int(os.environ.get("RINGFENCE_SEED", random.SystemRandom().randrange(2**32)))
    print(f"RINGFENCE_SEED={seed}")
    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", base64.b64encode(os.urandom(32)).decode())
    more = () if IS_LARGE else ("quick",)
    async with AsyncExitStack() as stack:
        instances = [Killed(url, directory / f"i{n}", *more, program=PROGRAM) for n in range(INSTANCES)]
        for one in instances:
            stack.push_async_callback(one.kill)
            await one.start()
        front = await stack.enter_async_context(gateway([one.port for one in instances]))
        token = (instances[0].directory / "admin-token").read_text().strip()
        api = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{front.port}",
            headers={"Authorization": f"Bearer {token}", "Connection": "close"},
            timeout=20.0,
        )
        fleet = Fleet(
            url,
            instances,
            front,
            await stack.enter_async_context(api),
            await stack.enter_async_context(marks()),
            await stack.enter_async_context(http_inbox()),
            random.Random(seed),
        )
        async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
            await connection.execute(TOLD)
        policy = {"network": {"allow": [f"localhost:{fleet.marks.port}"]}}
        await fleet.ask("PUT", POLICY, json={"policy": policy}, headers={"If-Match": "*"})
        channel = {"address": fleet.inbox.address, "settings": {"perHour": 1000}}
        await fleet.ask("PUT", "/api/notifications/channels/ops", json=channel)
        for n in range(AGENTS):
            made = await fleet.ask(
                "POST", SATELLITES, json={"name": f"agent-{n}", "region": "eu", "offlineAfterSeconds": 30}
            )
            satellite = Registered(made["satellite"]["id"], made["token"])
            fleet.agents.append(await stack.enter_async_context(agent_behind(front, satellite, directory)))
        await fleet.ask("POST", "/api/automations/apply", json={"text": automations(fleet.marks.port)})
        yield fleet


async def _wait_for(telling: asyncio.Future[Any]) -> None:
    await telling


async def storm(fleet: Fleet, *disasters: Disaster) -> None:
    """Have all events happen, and what is bad beside them; return when every run has ended."""
    began = time.monotonic()
    pace = KEYS / EVENTS_PER_SECOND
    # Those of a key are told one after the other, so that they have an order.
    telling: asyncio.Future[Any] = asyncio.ensure_future(
        asyncio.gather(*(fleet.tell(range(key, EVENTS, KEYS), pace) for key in range(KEYS)))
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_wait_for(telling))
            for disaster in disasters:
                tasks.create_task(disaster(telling))
    finally:
        telling.cancel()
    calm = time.monotonic()
    await fleet.all_has_ended()
    ended = time.monotonic()
    print(
        f"{EVENTS} events; bad for {calm - began:.0f} s, over after {ended - calm:.0f} s; {dict(fleet.done)}"
    )


async def told(fleet: Fleet) -> dict[str, list[int]]:
    """The events of each course, in the order of the log; each has exactly one run."""
    events = await fleet.rows(
        """SELECT (payload->>'n')::int, payload->>'course' FROM events WHERE hook = 'gust-came' ORDER BY position"""
    )
    assert sorted(n for n, _ in events) == list(range(EVENTS)), "each was told once"
    runs = await fleet.rows("SELECT (event::json->>'n')::int, automation FROM automations_runs")
    assert Counter(runs) == Counter(events), "each event has exactly one run, of its automation"
    found = defaultdict(list)
    for n, course in events:
        found[course].append(n)
    return found


def is_in_order(fleet: Fleet, numbers: list[int]) -> None:
    """Within a key each run's scripts come after those of the run before it."""
    for key in range(KEYS):
        wanted = [n for n in numbers if n % KEYS == key]
        ran = [n for n, _ in groupby(n for n, _ in fleet.marks.all if n in set(wanted))]
        assert ran == [n for n in wanted if n in set(ran)], f"key {key}"


async def notified(fleet: Fleet, numbers: list[int]) -> None:
    """People are told of each of these at least once, and twice only where it is recorded that this may be."""
    wanted = {f"gust {n}" for n in numbers}

    async def all_sent() -> bool:
        [(pending,)] = await fleet.rows(
            "SELECT count(*) FROM notifications_messages WHERE title LIKE 'gust %' AND status <> 'sent'"
        )
        return bool(pending == 0)

    await until_it(all_sent, "all messages are sent", seconds=PATIENCE_SECONDS, pause=0.5)
    messages = await fleet.rows(
        "SELECT id::text, title, begun, ended FROM notifications_messages WHERE title LIKE 'gust %'"
    )
    assert Counter(title for _, title, _, _ in messages) == Counter(wanted), "each has one message"
    came = Counter(message["id"] for message in fleet.inbox.messages)
    for id, title, begun, ended in messages:
        assert 1 <= came[id] <= begun - ended + 1, (
            f"{title} came {came[id]} times; {begun} attempts, {ended} known"
        )
    twice = [id for id, *_ in messages if came[id] > 1]
    cut = [id for id, _, begun, ended in messages if begun > ended]
    fleet.done["messages"] += len(messages)
    fleet.done["attempts cut off"] += len(cut)
    fleet.done["messages that came twice"] += len(twice)


async def attempts(fleet: Fleet) -> dict[tuple[int, str], list[str]]:
    """How the attempts at each step of each event have ended."""
    rows = await fleet.rows(
        """SELECT (event::json->>'n')::int, path, steps.status FROM automations_steps AS steps
             JOIN automations_runs AS runs ON runs.id = run_id ORDER BY attempt"""
    )
    found = defaultdict(list)
    for n, path, status in rows:
        found[n, path].append(status)
    return found


async def test_whatever_instances_are_killed_each_event_has_its_run_and_each_script_runs_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet_on(database_url, tmp_path, monkeypatch) as fleet:
        await storm(fleet, fleet.kill_instances)
        courses, tried, ran = await told(fleet), await attempts(fleet), Counter(fleet.marks.all)
        # Scripts on satellites know nothing of all this: each has run once, and the runs have done all that they do.
        failed = await fleet.rows(
            "SELECT event, status, message FROM automations_runs WHERE status <> 'succeeded'"
        )
        assert failed == []
        for n in range(EVENTS):
            assert [ran[n, step] for step in ("one", "two", "three")] == [1, 1, 1], n
        is_in_order(fleet, courses["in-order"])
        # What runs on an instance dies with it. Of that, nothing is done twice that is not to be.
        for n in courses["told"]:
            assert tried[n, "once"] in (["succeeded"], ["interrupted"])
            assert ran[n, "once"] <= 1
            assert (tried[n, "once"] == ["succeeded"]) <= (ran[n, "once"] == 1)
            assert set(tried[n, "again"][:-1]) <= {"interrupted"}
            assert ran[n, "again"] <= len(tried[n, "again"])
        fleet.done["interrupted"] += sum(one.count("interrupted") for one in tried.values())
        await notified(fleet, courses["told"])
        print(dict(fleet.done))


async def test_whatever_agents_are_killed_and_databases_restarted_no_script_runs_twice_and_all_runs_end(
    own_server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet_on(own_server.url, tmp_path, monkeypatch) as fleet:

        async def restart_the_database(telling: asyncio.Future[Any]) -> None:
            while not telling.done():
                await asyncio.sleep(fleet.chance.uniform(3, 10))
                await own_server.stop()
                fleet.done["database restarted"] += 1
                await asyncio.sleep(fleet.chance.uniform(0, 2))
                await own_server.start()

        await storm(fleet, fleet.kill_instances, fleet.kill_agents, restart_the_database)
        courses, tried, ran = await told(fleet), await attempts(fleet), Counter(fleet.marks.all)
        for n in range(EVENTS):
            for step in ("one", "two", "three", "once"):
                assert ran[n, step] <= 1, (n, step)
                assert (tried[n, step] == ["succeeded"]) <= (ran[n, step] == 1), (n, step)
            assert ran[n, "again"] <= len(tried[n, "again"])
        is_in_order(fleet, courses["in-order"])
        ended = await fleet.rows("SELECT status, message, count(*) FROM automations_runs GROUP BY 1, 2")
        reasons = {(status, (message or "")[:80]): count for status, message, count in ended}
        print(reasons)
        assert {status for status, _ in reasons} <= {"succeeded", "failed"}
        [through] = [
            await fleet.rows(
                """SELECT (event::json->>'n')::int FROM automations_runs
                WHERE automation = 'told' AND status = 'succeeded'"""
            )
        ]
        await notified(fleet, [n for (n,) in through])
        print(dict(fleet.done))
