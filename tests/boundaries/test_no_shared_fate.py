"""What cannot be written harms nothing that was to be written with it: it is set aside, counted and shown."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from ringfence import Culprit
from ringfence.cli.commands import events as events_command
from ringfence.hooks import HookError
from ringfence.scripts import Health, Verdict
from ringfence.storage.set_aside import KEPT_OF_ONE_ORIGIN, cannot_be_stored
from ringfence_health_checks.results.results import Result, Results
from ringfence_satellite.protocol import Heartbeat, SandboxPolicyApplied
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from tests.health_checks.conftest import Checking
from tests.satellite.instances import Instance, Registered
from tests.waiting import until_it

HONEST = 5
BAD = "a\0b"


async def set_aside(instance: Instance) -> list[dict[str, Any]]:
    answer = await instance.api.get("/api/host/events/failed")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["setAside"]
    return found


async def connected(instance: Instance, name: str) -> tuple[Registered, UUID]:
    """A satellite that has a connection, as the database knows it."""
    satellite, connection = await instance.register(name), uuid.uuid4()
    instance.plugin._journal.arrived(UUID(satellite.id), connection, version="1", capabilities=None)
    await instance.until(satellite, lambda shown: shown["status"] == "online")
    return satellite, connection


@pytest.mark.parametrize("what", ["arrival", "heartbeat", "applied policy", "departure", "event", "number"])
async def test_one_report_that_cannot_be_stored_costs_no_other(instance: Instance, what: str) -> None:
    """Whatever got past the types of the frames, of any kind."""
    journal = instance.plugin._journal
    rogue, its = await connected(instance, "rogue")
    others = [await connected(instance, f"honest-{n}") for n in range(HONEST)]
    for satellite, connection in others:
        journal.heartbeat(UUID(satellite.id), connection, version="2", capabilities={"a": 1})
    match what:
        case "arrival":
            journal.arrived(UUID(rogue.id), its, version=BAD, capabilities=None)
        case "heartbeat":
            journal.heartbeat(UUID(rogue.id), its, version=BAD, capabilities=None)
        case "number":
            journal.heartbeat(UUID(rogue.id), its, version=None, capabilities={"x": float("inf")})
        case "applied policy":
            applied = SandboxPolicyApplied.model_construct(revision=1, enforced={BAD: True}, downgrades=())
            journal.applied(UUID(rogue.id), its, applied, unknown=False)
        case "departure" | "event":
            journal.departed(UUID(rogue.id), its, clean=True, code=1000, reason=BAD)
    for satellite, _ in others:
        shown = await instance.until(satellite, lambda shown: shown["version"] == "2")
        assert (shown["status"], shown["capabilities"]) == ("online", {"a": 1})
    expected = {
        "arrival": ["arrival", "event"],
        "departure": ["event"],
        "number": ["heartbeat"],
    }.get(what, [what])

    async def all_of_it() -> list[dict[str, Any]] | None:
        found = await set_aside(instance)
        return found if [one["what"] for one in found] == expected else None

    aside = await until_it(all_of_it, "what cannot be stored is set aside")
    assert aside is not None
    assert {one["origin"] for one in aside} == {f"satellite {rogue.id}"}
    assert {one["plugin"] for one in aside} == {"satellite"}
    state = (await instance.api.get("/readyz")).json()
    assert state["ready"]
    assert state["setAside"] == {"satellite": len(aside)}
    if what in {"departure", "event"}:
        assert (await instance.show(rogue))["status"] == "offline", "what can be stored of it is stored"


async def test_what_was_set_aside_is_shown_to_operators(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rogue, its = await connected(instance, "rogue")
    instance.plugin._journal.heartbeat(UUID(rogue.id), its, version=BAD, capabilities=None)
    answer = {"failed": [], "setAside": await until_it(lambda: set_aside(instance), "it is set aside")}

    class Host:
        def __enter__(self) -> Host:
            return self

        def __exit__(self, *_: object) -> None: ...

        def request(self, *_: object, **__: object) -> Any:
            return answer

    monkeypatch.setattr("ringfence.cli.commands.events.HostClient.connect", Host)
    events_command.failed(as_json=False)
    told = capsys.readouterr().out
    assert rogue.id in told.replace("\n", "")
    assert "heartbeat" in told


async def test_a_result_that_cannot_be_stored_is_settled_and_set_aside(instance: Instance) -> None:
    """Otherwise its satellite would send it again and again, and nothing that comes after it."""
    checking = Checking(instance.api)
    check = await checking.create(runsOn={"tags": ["nowhere"]})
    plugin = next(one.plugin for one in instance.host.plugins if one.info.id == "health-checks")
    results: Results = plugin._results  # type: ignore[attr-defined]
    verdict, now = Verdict(Health.HEALTHY), dt.datetime.now(dt.UTC)
    bad = Result(UUID(check["id"]), "place", BAD, verdict, executed_at=now)
    assert not await results.store(bad)
    assert await results.store(Result(UUID(check["id"]), "place", "system", verdict, executed_at=now))
    (aside,) = await set_aside(instance)
    assert (aside["plugin"], aside["origin"]) == ("health-checks", "place")
    assert check["id"] in aside["what"]
    assert len(await checking.results(check)) == 1


async def written_apart(
    instance: Instance, values: Sequence[object]
) -> tuple[list[str], list[str], int, deque[object]]:
    """Write texts: those that were written, the origins of what was set aside, how many tries it took, what is left."""
    context, tries = instance.plugin._context, 0
    async with context.sessions.begin() as session:
        await session.execute(text("CREATE TABLE IF NOT EXISTS texts (n bigserial, value text NOT NULL)"))

    async def write(session: AsyncSession, some: Sequence[object]) -> None:
        nonlocal tries
        tries += 1
        for one in some:
            if isinstance(one, Exception):
                raise one
            await session.execute(text("INSERT INTO texts (value) VALUES (:value)"), {"value": one})

    items = deque(values)
    try:
        await context.write_apart(items, write, lambda one: Culprit(ascii(one), "text", one))
    finally:
        async with context.sessions() as session:
            stored = list((await session.execute(text("SELECT value FROM texts ORDER BY n"))).scalars())
    origins = [one["origin"] for one in await set_aside(instance)]
    return stored, origins, tries, items


async def test_a_batch_is_halved_until_the_culprits_are_alone(instance: Instance) -> None:
    good = [f"t{n}" for n in range(64)]
    values: list[object] = list(good)
    for at, bad in ((0, BAD), (20, None), (40, "\ud800"), (41, HookError("no")), (68, ValueError("no"))):
        values.insert(at, bad)
    stored, origins, tries, left = await written_apart(instance, values)
    assert stored == good, "all others, in their order, each once"
    assert len(origins) == 5
    assert not left
    assert tries < 60, "the halves, not one by one"


async def test_an_outage_sets_nothing_aside(instance: Instance) -> None:
    outage = OperationalError("x", {}, Exception("the server has gone"))
    with pytest.raises(OperationalError):
        await written_apart(instance, ["a", outage])
    assert await set_aside(instance) == []


@pytest.mark.parametrize("error", [OSError(), TimeoutError(), LookupError(), RuntimeError(), MemoryError()])
def test_what_is_nobodys_fault_is_no_reason_to_set_anything_aside(error: Exception) -> None:
    assert not cannot_be_stored(error)


async def test_whoever_goes_on_like_that_fills_no_disk(instance: Instance) -> None:
    many = KEPT_OF_ONE_ORIGIN + 20
    context = instance.plugin._context

    async def refuse(_: AsyncSession, some: Sequence[int]) -> None:
        raise ValueError("no")

    assert await context.write_apart(deque(range(many)), refuse, lambda n: Culprit("one", str(n), n)) == many
    aside = await set_aside(instance)
    assert [one["what"] for one in aside] == [str(n) for n in range(20, many)]
    assert (await instance.api.get("/readyz")).json()["setAside"] == {"satellite": many}


async def test_what_the_database_says_of_the_data_is_the_datas_fault(instance: Instance) -> None:
    for statement in ("SELECT 1/0", "SELECT CAST('x' AS int)", "SELECT CAST('{' AS jsonb)"):
        with pytest.raises(DBAPIError) as caught:
            async with instance.host.runtime.database.sessions() as session:
                await session.execute(text(statement))
        assert cannot_be_stored(caught.value), statement
    with pytest.raises(DBAPIError) as caught:
        async with instance.host.runtime.database.sessions() as session:
            await session.execute(text("SELECT * FROM no_such_table"))
    assert not cannot_be_stored(caught.value)


async def test_an_honest_satellite_is_heard_of_while_another_is_set_aside(instance: Instance) -> None:
    rogue, its = await connected(instance, "rogue")
    honest = await instance.register("honest")
    async with instance.connected(honest) as peer:
        for n in range(3):
            instance.plugin._journal.heartbeat(UUID(rogue.id), its, version=BAD, capabilities=None)
            await peer.say(Heartbeat(version=f"v{n}"))
            await instance.until(honest, lambda shown, n=n: shown["version"] == f"v{n}")  # type: ignore[misc]
