"""Runs are things: asked for, looked at, cancelled and kept by their ids, whatever becomes of connections meanwhile."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts import ScriptKind
from ringfence.testing import client
from ringfence_satellite.protocol import (
    Authenticate,
    CancelRun,
    CloseCode,
    Heartbeat,
    RunAccepted,
    RunFinished,
    RunScript,
)
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.runs import delivery, requesting, states, table
from ringfence_satellite.service import SatelliteAway, UnknownSatellite
from sqlalchemy import text

from tests.satellite.conftest import StartInstance
from tests.satellite.instances import RUNS, SATELLITES, Instance, Peer, Registered
from tests.satellite.test_fleet_state import events_of, killable
from tests.shared_hosts import OWN, SHARED
from tests.waiting import in_time

pytestmark = SHARED

RESULT = {"exitCode": 0, "stdout": "hi\n", "sandbox": {}}
RUN = "satellite.script.run"


@dataclass(slots=True)
class Keeper(Peer):
    """A satellite that keeps its runs, as agents do."""

    async def accept(self) -> str:
        """Take the run that is handed over next; answers its id."""
        run_id: str = (await self.hear("run_script"))["runId"]
        await self.say(RunAccepted(run_id=run_id))
        return run_id

    async def finish(self, run_id: str, **fields: Any) -> bool:
        """Answer a run, and wait for the acknowledgement: whether it was wanted."""
        await self.say(RunFinished.of(run_id, {**(fields or RESULT), "resultId": run_id}))
        return bool((await self.hear("result_ack"))["accepted"])

    async def idle(self, instance: Instance, satellite: Registered) -> None:
        """Return when all that was said is worked on and nothing has come: the next frame is an answer."""
        await self.say(Heartbeat(version=(version := str(uuid.uuid4()))))
        await instance.until(satellite, lambda shown: shown["version"] == version)
        await self.say('{"type": "request_run_secrets", "requestId": "q", "configId": "c"}')
        await self.hear("run_secrets")


@asynccontextmanager
async def keeper(
    instance: Instance, satellite: Registered, *, process: str | None = "p", runs: tuple[str, ...] = ()
) -> AsyncIterator[Keeper]:
    async with instance.peer() as peer:
        hello = Authenticate(
            client_id=satellite.id, token=satellite.token, version="1", process=process, runs=runs
        )
        await peer.say(hello)
        welcome = await peer.hear("authenticated")
        assert welcome["keepsRuns"]
        yield Keeper(peer.socket)


async def asked(instance: Instance, satellite: Registered, **fields: Any) -> dict[str, Any]:
    answer = await instance.ask(satellite, **fields)
    assert answer.status_code == 201, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def cancel(instance: Instance, run: dict[str, Any], *, status: int, wait: float = 0) -> dict[str, Any]:
    answer = await instance.api.delete(f"{RUNS}/{run['id']}", params={"wait": wait})
    assert answer.status_code == status, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def finished_events(instance: Instance, satellite: Registered) -> int:
    return (await events_of(instance, satellite)).count("satellite-run-finished")


async def test_asking_answers_at_once_with_an_id_and_its_address(instance: Instance) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        answer = await instance.ask(satellite, script="echo hi")
        run = answer.json()
        assert (answer.status_code, answer.headers["location"]) == (201, f"{RUNS}/{run['id']}")
        assert (run["satelliteId"], run["satellite"], run["result"]) == (satellite.id, satellite.name, None)
        assert await peer.accept() == run["id"]
        running = await instance.run_until(run, lambda one: one["state"] == "running")
        assert running["startedAt"]
        assert await peer.finish(run["id"])
        ended = await instance.ended(run)
    assert (ended["outcome"], ended["result"]["stdout"]) == ("finished", "hi\n")
    of_one = await instance.api.get(f"{SATELLITES}/{satellite.id}/runs/{run['id']}")
    assert of_one.json() == ended
    other = await instance.register()
    assert (await instance.api.get(f"{SATELLITES}/{other.id}/runs/{run['id']}")).status_code == 404
    assert (await instance.api.get(f"{RUNS}/{uuid.uuid4()}")).status_code == 404


async def test_waiting_answers_when_it_has_ended_or_the_time_is_over(instance: Instance) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        asking = asyncio.create_task(instance.ask(satellite, wait=60))
        id = await peer.accept()
        assert (await instance.api.get(f"{RUNS}/{id}", params={"wait": 0.05})).json()["state"] != "ended"
        waiting = asyncio.create_task(instance.api.get(f"{RUNS}/{id}", params={"wait": 60}, timeout=90))
        await peer.finish(id)
        for answer in (await asking, await waiting):
            assert (answer.json()["state"], answer.json()["result"]["exitCode"]) == ("ended", 0)
    for wait in ("61", "-1", "nan", "x"):
        assert (await instance.api.get(f"{RUNS}/{id}", params={"wait": wait})).status_code == 422


@OWN
async def test_who_waits_is_answered_at_once_when_the_instance_drains(start_instance: StartInstance) -> None:
    leaving, staying = await start_instance(), await start_instance()
    satellite = await staying.register()
    async with keeper(staying, satellite) as peer:
        asking = asyncio.create_task(leaving.ask(satellite, wait=60))
        id = await peer.accept()
        path = f"{RUNS}/{id}"
        waits = [{"wait": 60}, {"wait": 60, "outputAfter": -1}]
        waiting = [asyncio.create_task(leaving.api.get(path, params=each, timeout=90)) for each in waits]
        async with in_time("all of them wait"):
            while leaving.plugin._watchers.waiting(uuid.UUID(id)) < 3:
                await asyncio.sleep(0.01)
        leaving.host.runtime.drain.ask()
        async with in_time("an answer, long before the end of the wait", seconds=30):
            answers = [(await one).json() for one in (asking, *waiting)]
            later = await leaving.api.get(path, params={"wait": 60}, timeout=90)
        assert [one["state"] in {"delivered", "running"} for one in (*answers, later.json())] == [True] * 4
        await peer.finish(id)
        assert (await staying.ended(answers[0]))["outcome"] == "finished"


async def test_neither_the_script_nor_the_output_is_kept_where_it_need_not_be(instance: Instance) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite, script="echo a-script")
        await peer.accept()
        await instance.run_until(run, lambda one: one["state"] == "running")
        async with instance.host.runtime.database.sessions() as session:
            one = text("SELECT * FROM satellite_runs WHERE id = :id")
            kept = (await session.execute(one, {"id": run["id"]})).one()
            assert "a-script" not in repr(kept)
        await peer.finish(run["id"], exitCode=3, stdout="an-output", sandbox={})
        await instance.ended(run)
    async with instance.host.runtime.database.sessions() as session:
        rows = await session.execute(
            text("""SELECT hook, actor, payload FROM events
                     WHERE hook LIKE '%-run-%' AND payload->>'runId' = :id ORDER BY position"""),
            {"id": run["id"]},
        )
        told = [(row.hook, row.actor, row.payload) for row in rows]
    assert [(hook, actor) for hook, actor, _ in told] == [
        ("satellite-run-requested", run["askedBy"]),
        ("satellite-run-finished", None),
    ]
    assert told[1][2]["outcome"] == "finished"
    assert told[1][2]["exitCode"] == 3
    assert not any(word in repr(told) for word in ("a-script", "an-output"))


async def test_a_run_that_is_asked_for_between_two_connections_is_handed_over_at_the_next_one_wherever(
    instance: Instance,
    other: Instance,
) -> None:
    one, two = instance, other
    satellite = await one.register()
    async with keeper(one, satellite) as peer:
        await one.until(satellite, lambda shown: shown["status"] == "online")
        peer.socket.transport.abort()
        await one.until(satellite, lambda shown: shown["instance"] is None)
    run = await asked(one, satellite)
    assert run["state"] == "queued"
    async with keeper(two, satellite) as peer:
        assert await peer.accept() == run["id"]
        assert await peer.finish(run["id"])
    assert (await one.ended(run))["outcome"] == "finished"


async def test_a_run_on_a_frozen_instance_is_handed_over_when_the_satellite_goes_elsewhere(
    instance: Instance, tmp_path: Path
) -> None:
    one, satellite = instance, await instance.register()
    async with killable(one, tmp_path) as (process, frozen):
        async with keeper(frozen, satellite):
            await one.until(satellite, lambda shown: shown["instance"] is not None)
            process.send_signal(signal.SIGSTOP)
            try:
                run = await asked(one, satellite)
                async with keeper(one, satellite) as peer:
                    assert await peer.accept() == run["id"]
                    await one.run_until(run, lambda shown: shown["state"] == "running")
                    process.send_signal(signal.SIGCONT)
                    # It finds its old connection, and the run: neither is its business any more.
                    await peer.idle(one, satellite)
                    async with one.api.stream("GET", "/readyz"):
                        pass
                    assert await peer.finish(run["id"])
            finally:
                process.send_signal(signal.SIGCONT)
        assert (await one.ended(run))["outcome"] == "finished"
        assert await finished_events(one, satellite) == 1


async def test_a_run_goes_on_when_its_satellite_moves_and_its_result_comes_once(
    instance: Instance,
    other: Instance,
) -> None:
    one, two = instance, other
    satellite = await one.register()
    async with keeper(one, satellite) as peer:
        run = await asked(two, satellite)
        id = await peer.accept()
        await two.run_until(run, lambda shown: shown["state"] == "running")
        async with keeper(two, satellite, runs=(id,)) as moved:
            await moved.idle(two, satellite)
            assert await moved.finish(id)
            # The acknowledgement was lost, for all that the agent knows.
            assert await moved.finish(id, exitCode=9, sandbox={}) is False
        ended = await one.ended(run)
    assert (ended["outcome"], ended["result"]["exitCode"]) == ("finished", 0)
    assert await finished_events(one, satellite) == 1


async def test_what_never_arrived_is_handed_over_again_to_the_same_process(instance: Instance) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite)
        await peer.hear("run_script")
        peer.socket.transport.abort()
        async with keeper(instance, satellite) as again:
            assert await again.accept() == run["id"]
            await again.finish(run["id"])
    assert (await instance.ended(run))["outcome"] == "finished"


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_run_of_an_agent_that_was_started_anew_is_lost_told_once_and_not_run_again(
    instance: Instance, *, accepted: bool
) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite)
        await peer.hear("run_script")
        if accepted:
            await peer.say(RunAccepted(run_id=run["id"]))
            await instance.run_until(run, lambda one: one["state"] == "running")
        async with keeper(instance, satellite, process="another") as anew:
            ended = await instance.ended(run)
            assert (ended["outcome"], ended["reason"]) == ("lost", states.STARTED_ANEW)
            await anew.idle(instance, satellite)
    assert await finished_events(instance, satellite) == 1


async def test_a_result_that_an_agent_kept_over_its_restart_is_taken(instance: Instance) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite)
        id = await peer.accept()
        await instance.run_until(run, lambda one: one["state"] == "running")
        async with keeper(instance, satellite, process="another", runs=(id,)) as anew:
            assert await anew.finish(id)
    assert (await instance.ended(run))["outcome"] == "finished"


async def test_a_run_that_waits_is_cancelled_at_once_and_never_handed_over(instance: Instance) -> None:
    satellite = await instance.register()
    run = await asked(instance, satellite)
    ended = await cancel(instance, run, status=200)
    assert (ended["state"], ended["outcome"], ended["cancelledBy"]) == ("ended", "cancelled", run["askedBy"])
    assert await cancel(instance, run, status=200) == ended
    assert await finished_events(instance, satellite) == 1
    async with keeper(instance, satellite) as peer:
        await peer.idle(instance, satellite)


async def test_a_run_is_cancelled_where_it_runs(instance: Instance, other: Instance) -> None:
    one, two = instance, other
    satellite = await one.register()
    async with keeper(two, satellite) as peer:
        run = await asked(one, satellite)
        id = await peer.accept()
        await one.run_until(run, lambda shown: shown["state"] == "running")
        assert (await cancel(one, run, status=202))["cancelledAt"]
        assert (await peer.hear("cancel_run"))["runId"] == id
        assert (await cancel(two, run, status=202))["state"] == "running"
        await peer.idle(two, satellite)
        waiting = asyncio.create_task(cancel(one, run, status=200, wait=30))
        await peer.finish(id, error="ended here", cause="cancelled")
        ended = await waiting
    assert (ended["outcome"], ended["reason"]) == ("cancelled", "ended here")
    assert await cancel(one, run, status=200) == ended
    events = await events_of(one, satellite)
    assert events.count("satellite-run-cancel-requested") == 1
    assert events.count("satellite-run-finished") == 1


async def test_a_satellite_that_was_away_is_told_of_the_cancelling_when_it_is_back(
    instance: Instance,
) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite)
        id = await peer.accept()
        await instance.run_until(run, lambda one: one["state"] == "running")
        peer.socket.transport.abort()
        await instance.until(satellite, lambda shown: shown["instance"] is None)
        await cancel(instance, run, status=202)
        async with keeper(instance, satellite, runs=(id,)) as back:
            assert (await back.hear("cancel_run"))["runId"] == id
            assert await back.finish(id, error="ended here", cause="cancelled")
    assert (await instance.ended(run))["outcome"] == "cancelled"


async def test_an_agent_of_an_older_release_finishes_what_it_cannot_cancel(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        run = await asked(instance, satellite)
        id = (await peer.hear("run_script"))["runId"]
        await cancel(instance, run, status=202)
        assert (await peer.hear("cancel_run"))["runId"] == id
        await peer.say(RunFinished.of(id, RESULT))
        ended = await instance.ended(run)
        assert (ended["outcome"], ended["result"]["stdout"]) == ("finished", "hi\n")
        await peer.say(Heartbeat(version="and goes on"))
        await instance.until(satellite, lambda shown: shown["version"] == "and goes on")


async def test_a_run_whose_satellite_does_not_come_in_time_expires(instance: Instance) -> None:
    satellite = await instance.register()
    run = await asked(instance, satellite, deliverWithinSeconds=0.05)
    ended = await instance.ended(run)
    assert (ended["outcome"], ended["reason"]) == ("expired", states.TOO_LATE)
    async with keeper(instance, satellite) as peer:
        await peer.idle(instance, satellite)


async def test_a_satellite_that_never_comes_back_has_lost_its_runs_after_a_while(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    satellite = await instance.register()
    for name in ("_grace", "_away"):
        monkeypatch.setattr(instance.plugin._deliveries, name, 0.01)
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite, timeoutMs=1)
        await peer.accept()
        peer.socket.transport.abort()
        ended = await instance.ended(run)
    assert (ended["outcome"], ended["reason"]) == ("lost", states.NOT_BACK)


async def test_a_satellite_that_is_there_and_does_not_answer_has_lost_the_run(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    satellite = await instance.register()
    monkeypatch.setattr(instance.plugin._deliveries, "_grace", 0.01)
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite, timeoutMs=1)
        id = await peer.accept()
        await instance.run_until(run, lambda one: one["state"] == "running")
        async with in_time("the run is lost"):
            while (await instance.api.get(f"{RUNS}/{id}")).json()["state"] != "ended":
                await peer.say(Heartbeat())
                await asyncio.sleep(0.05)
        assert (await instance.ended(run))["reason"] == states.NO_ANSWER
        assert (await peer.hear("cancel_run"))["runId"] == id
        # What it says of it later changes nothing, and is settled.
        await peer.finish(id)
    assert (await instance.ended(run))["outcome"] == "lost"


async def test_a_satellite_that_accepts_a_run_again_has_no_more_time_for_it(instance: Instance) -> None:
    satellite = await instance.register()
    until = text("SELECT answer_until FROM satellite_runs WHERE id = :id")
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite)
        id = await peer.accept()
        await instance.run_until(run, lambda one: one["state"] == "running")
        async with instance.host.runtime.database.sessions() as session:
            before = (await session.execute(until, {"id": id})).scalar_one()
        await peer.say(RunAccepted(run_id=id))
        await peer.idle(instance, satellite)
        async with instance.host.runtime.database.sessions() as session:
            assert (await session.execute(until, {"id": id})).scalar_one() == before


async def test_what_has_been_given_up_is_not_to_be_begun(instance: Instance) -> None:
    satellite = await instance.register()
    run = await asked(instance, satellite)
    await cancel(instance, run, status=200)
    async with keeper(instance, satellite) as peer:
        await peer.say(RunAccepted(run_id=run["id"]))
        assert CancelRun(run_id=run["id"]).encode() == await peer.socket.recv()


async def test_one_satellite_says_nothing_of_anothers_runs(instance: Instance) -> None:
    mine, other = await instance.register(), await instance.register()
    async with keeper(instance, mine) as rogue, keeper(instance, other) as honest:
        run = await asked(instance, other)
        id = await honest.accept()
        await rogue.say(RunAccepted(run_id=id))
        assert not await rogue.finish(id, exitCode=6, sandbox={})
        assert await honest.finish(id)
    assert (await instance.ended(run))["result"]["exitCode"] == 0


async def test_a_satellite_that_claims_anothers_run_is_not_told_that_its_result_is_taken(
    instance: Instance,
) -> None:
    mine, other = await instance.register(), await instance.register()
    async with keeper(instance, other) as honest:
        run = await asked(instance, other)
        id, unknown = await honest.accept(), str(uuid.uuid4())
        async with keeper(instance, mine, runs=(id, unknown)) as rogue:
            assert not await rogue.finish(id, exitCode=6, sandbox={})
            assert not await rogue.finish(unknown, exitCode=6, sandbox={})
        assert await honest.finish(id)
        async with keeper(instance, mine, runs=(id,)) as rogue:
            assert not await rogue.finish(id, exitCode=6, sandbox={})
    # One whose acknowledgement was lost sends it again, and it is settled.
    async with keeper(instance, other, runs=(id,)) as honest:
        assert await honest.finish(id)
    assert (await instance.ended(run))["result"]["exitCode"] == 0


async def test_how_many_runs_of_a_satellite_may_be_unfinished_is_bounded(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MAX_UNFINISHED", 3)
    satellite, other = await instance.register(), await instance.register()
    answers = await asyncio.gather(*(instance.ask(satellite) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 5
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) > 0
    assert "cancel some" in refused.json()["detail"]
    assert (await instance.ask(other)).status_code == 201
    run = next(answer for answer in answers if answer.status_code == 201).json()
    await cancel(instance, run, status=200)
    assert (await instance.ask(satellite)).status_code == 201


@OWN
async def test_a_satellite_that_takes_nothing_holds_up_nobody_elses_runs(
    start_instance: StartInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All that is due is found by looking at everything again, a little at a time.
    monkeypatch.setattr(table, "STEP", 2)
    monkeypatch.setattr(delivery, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(delivery, "SELDOM_SECONDS", 0.2)
    monkeypatch.setattr(delivery.Deliveries, "nudge", lambda self, satellite: None)
    instance = await start_instance()
    made = [await instance.register(name) for name in ("a", "b", "c")]
    stuck, *others = sorted(made, key=lambda one: one.id)
    send = Connection.send
    monkeypatch.setattr(
        Connection, "send", lambda self, message: str(self.satellite) != stuck.id and send(self, message)
    )
    async with (
        keeper(instance, stuck),
        keeper(instance, others[0]) as one,
        keeper(instance, others[1]) as two,
    ):
        for satellite in made:
            await instance.until(satellite, lambda shown: shown["status"] == "online")
        waiting = [await asked(instance, stuck) for _ in range(5)]
        runs = [await asked(instance, satellite) for satellite in others]
        assert [await one.accept(), await two.accept()] == [run["id"] for run in runs]
        for run in waiting:
            shown = (await instance.api.get(f"{RUNS}/{run['id']}")).json()
            assert (shown["state"] in {"queued", "delivered"}, shown["outcome"]) == (True, None)


async def test_runs_are_listed_newest_first_by_satellite_and_state(instance: Instance) -> None:
    one, two = await instance.register("one"), await instance.register("two")
    made = [(await asked(instance, satellite))["id"] for satellite in (one, two, one, two, one)]
    await cancel(instance, {"id": made[0]}, status=200)

    async def listed(path: str = RUNS, **query: Any) -> dict[str, Any]:
        answer = await instance.api.get(path, params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ids(found: dict[str, Any]) -> list[str]:
        return [run["id"] for run in found["runs"]]

    assert ids(await listed()) == made[::-1]
    assert ids(await listed(satellite=two.id)) == [made[3], made[1]]
    assert ids(await listed(f"{SATELLITES}/{two.id}/runs")) == [made[3], made[1]]
    assert ids(await listed(state="ended")) == [made[0]]
    assert ids(await listed(satellite=one.id, state="queued")) == [made[4], made[2]]
    paged, after = list[str](), None
    while True:
        page = await listed(limit=2, **({} if after is None else {"after": after}))
        paged += ids(page)
        if (after := page["next"]) is None:
            break
    assert paged == made[::-1]
    assert "result" not in (await listed())["runs"][0]


async def test_a_run_is_shown_to_who_may_run_scripts_there_and_to_who_has_asked(instance: Instance) -> None:
    satellite = await instance.register(tags=["env=shown-dev"])
    async with (
        client(instance.host, rules=[f"{RUN} on env=shown-dev"]) as dev,
        client(instance.host, rules=[f"{RUN} on env=shown-prod"]) as prod,
        client(instance.host, rules=["satellite.satellite.read"]) as reader,
    ):
        body = {"kind": "shell", "script": "true"}
        run = (await dev.post(f"{SATELLITES}/{satellite.id}/runs", json=body)).json()
        paths = [f"{RUNS}/{run['id']}", f"{SATELLITES}/{satellite.id}/runs/{run['id']}"]
        for path in paths:
            assert (await dev.get(path)).status_code == 200
            for stranger in (prod, reader):
                assert (await stranger.get(path)).status_code == 403
                assert (await stranger.delete(path)).status_code == 403
        assert len((await dev.get(RUNS)).json()["runs"]) == 1
        assert (await prod.get(RUNS)).json()["runs"] == []
        assert (await reader.get(RUNS)).status_code == 403
        # What one has asked for remains one's own when the satellite goes elsewhere.
        await instance.api.patch(f"{SATELLITES}/{satellite.id}", json={"tags": ["env=shown-prod"]})
        assert (await dev.post(f"{SATELLITES}/{satellite.id}/runs", json=body)).status_code == 403
        assert len((await dev.get(RUNS)).json()["runs"]) == len((await prod.get(RUNS)).json()["runs"]) == 1
        assert (await dev.delete(paths[0])).json()["outcome"] == "cancelled"
        assert (await prod.get(paths[0])).status_code == 200


async def test_runs_are_kept_for_a_day_after_their_end(instance: Instance) -> None:
    satellite = await instance.register()
    old, young, waiting = [await asked(instance, satellite) for _ in range(3)]
    for run in (old, young):
        await cancel(instance, run, status=200)
    async with instance.host.runtime.database.sessions.begin() as session:
        for run, hours in ((old, 25), (young, 23)):
            await session.execute(
                text(
                    "UPDATE satellite_runs SET ended_at = now() - make_interval(hours => :hours) WHERE id = :id"
                ),
                {"hours": hours, "id": run["id"]},
            )
        month = "UPDATE satellite_runs SET asked_at = now() - interval '1 month' WHERE satellite_id = :id"
        await session.execute(text(month), {"id": satellite.id})
    settings = instance.plugin._settings
    assert settings.run_retention_seconds == 24 * 3600
    assert await instance.plugin._deliveries.forget(keep_seconds=settings.run_retention_seconds) == 1
    assert await kept(instance, satellite) == [waiting["id"], young["id"]]


async def test_one_satellites_results_are_kept_up_to_a_bound(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MAX_KEPT_BYTES", 25_000)
    monkeypatch.setattr(table, "MAX_KEPT_RUNS", 3)
    large, small = await instance.register(), await instance.register()
    made = list[str]()
    async with keeper(instance, large) as one, keeper(instance, small) as two:
        for peer, satellite in ((one, large), (two, small), (one, large), (one, large)):
            run = await asked(instance, satellite)
            await peer.accept()
            await peer.finish(run["id"], exitCode=0, stdout="x" * 10_000, sandbox={})
            made.append(run["id"])
    await instance.plugin._deliveries.forget(keep_seconds=3600)
    assert (await kept(instance, large), await kept(instance, small)) == ([made[3], made[2]], [made[1]])
    for _ in range(4):
        made.append((await asked(instance, small))["id"])
        await cancel(instance, {"id": made[-1]}, status=200)
    await instance.plugin._deliveries.forget(keep_seconds=3600)
    assert (await kept(instance, large), await kept(instance, small)) == ([made[3], made[2]], made[:4:-1])


async def kept(instance: Instance, satellite: Registered) -> list[str]:
    answer = await instance.api.get(RUNS, params={"satellite": satellite.id})
    return [run["id"] for run in answer.json()["runs"]]


async def test_runs_go_with_their_satellite(instance: Instance) -> None:
    satellite = await instance.register()
    run = await asked(instance, satellite)
    waiting = asyncio.create_task(instance.api.get(f"{RUNS}/{run['id']}", params={"wait": 60}, timeout=90))
    await instance.api.delete(f"{SATELLITES}/{satellite.id}")
    assert (await waiting).status_code == 404


async def test_who_waits_for_a_run_of_a_satellite_that_is_deleted_is_told_at_once(
    instance: Instance, other: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requesting, "LOOK_SECONDS", 3600.0)
    one = instance
    run = await asked(one, satellite := await one.register())
    waiting = [
        asyncio.create_task(each.api.get(f"{RUNS}/{run['id']}", params={"wait": 60}, timeout=90))
        for each in (one, other)
    ]
    async with in_time("both wait"):
        while not all(each.plugin._watchers.waiting(uuid.UUID(run["id"])) for each in (one, other)):
            await asyncio.sleep(0.01)
    await one.api.delete(f"{SATELLITES}/{satellite.id}")
    async with in_time("an answer, long before the end of the wait", seconds=30):
        assert [(await each).status_code for each in waiting] == [404, 404]


async def test_a_result_that_cannot_be_written_is_taken_on_the_next_connection(instance: Instance) -> None:
    satellite = await instance.register()
    sessions = instance.host.runtime.database.sessions
    async with keeper(instance, satellite) as peer:
        run = await asked(instance, satellite)
        id = await peer.accept()
        await instance.run_until(run, lambda one: one["state"] == "running")
        async with sessions.begin() as session:
            await session.execute(text("ALTER TABLE satellite_runs RENAME COLUMN result TO away"))
        await peer.say(RunFinished.of(id, {**RESULT, "resultId": id}))
        assert (await peer.closed())[0] == CloseCode.TRY_LATER
        async with sessions.begin() as session:
            await session.execute(text("ALTER TABLE satellite_runs RENAME COLUMN away TO result"))
    async with keeper(instance, satellite, runs=(id,)) as peer:
        assert await peer.finish(id)
    assert (await instance.ended(run))["outcome"] == "finished"


SCRIPT = RunScript(run_id="of-a-plugin", kind=ScriptKind.SHELL, script="true", timeout_ms=1000)


async def test_a_plugin_runs_a_script_where_a_satellite_is_online_and_hears_why_not(
    instance: Instance,
) -> None:
    satellite = await instance.register()
    service, id = instance.plugin, uuid.UUID(satellite.id)
    with pytest.raises(SatelliteAway, match="has never connected"):
        await service.run(id, SCRIPT)
    with pytest.raises(UnknownSatellite):
        await service.run(uuid.uuid4(), SCRIPT)
    async with keeper(instance, satellite) as peer:
        await instance.until(satellite, lambda shown: shown["status"] == "online")
        running = asyncio.create_task(service.run(id, SCRIPT))
        assert await peer.finish(await peer.accept())
        assert (await running)["stdout"] == "hi\n"
        running = asyncio.create_task(service.run(id, SCRIPT))
        await peer.finish(await peer.accept(), error="busy")
        with pytest.raises(SatelliteAway, match="busy"):
            await running


@pytest.mark.slow
async def test_a_plugin_that_no_longer_waits_has_its_run_ended(instance: Instance) -> None:
    satellite = await instance.register()
    async with keeper(instance, satellite) as peer:
        await instance.until(satellite, lambda shown: shown["status"] == "online")
        running = asyncio.create_task(instance.plugin.run(uuid.UUID(satellite.id), SCRIPT))
        run_id = await peer.accept()
        running.cancel()
        assert (await peer.hear("cancel_run"))["runId"] == run_id
