"""Retention lets old events go, and never one that somebody still needs."""

from __future__ import annotations

import datetime as dt

import pytest
from ringfence.eventlog import Retention
from ringfence.host import Host
from ringfence.testing import RunHost, eventually
from sqlalchemy import text

from tests.eventlog.probe import Probe, emit, query, treasured

KEEP = dt.timedelta(days=30)


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def host(run_host: RunHost, probe: Probe) -> Host:
    return await run_host(plugins=[probe])


async def trim(host: Host) -> int:
    """Let every event be 31 days older, have this instance say that it has read them, and trim."""
    await query(host, "UPDATE events SET occurred_at = occurred_at - interval '31 days'")
    await query(
        host,
        """INSERT INTO event_instances SELECT :i, coalesce(max(position), 0), now() FROM events
           ON CONFLICT (instance) DO UPDATE SET cursor = excluded.cursor""",
        i=host.instance_id,
    )
    return await Retention(host.runtime.database.sessions, KEEP).trim()


async def left(host: Host) -> list[int]:
    return [n for (n,) in await query(host, "SELECT (payload->>'n')::int FROM events ORDER BY position")]


async def test_old_events_go_and_the_newest_of_a_stream_stays(host: Host, probe: Probe) -> None:
    await emit(probe.context, 1, 2, 3)
    await emit(probe.context, 4, 5, stream="other")
    assert await trim(host) == 3
    assert await left(host) == [3, 5]


async def test_young_events_stay(host: Host, probe: Probe) -> None:
    await emit(probe.context, 1, 2)
    assert await Retention(host.runtime.database.sessions, KEEP).trim() == 0


async def test_a_trimmed_stream_goes_on_with_its_version_and_its_chain(host: Host, probe: Probe) -> None:
    await emit(probe.context, 1, 2, 3)
    await trim(host)
    [event] = await emit(probe.context, 4, expected_version=3)
    assert event.version == 4
    [(linked,)] = await query(
        host,
        """SELECT new.hash = ringfence_event_hash(old.hash, new.stream, new.version, new.hook, new.plugin,
                                                  new.payload, new.actor, new.reason, new.occurred_at)
             FROM events AS old JOIN events AS new ON new.stream = old.stream AND new.version = old.version + 1""",
    )
    assert linked


async def test_a_stream_that_is_kept_for_ever_stays_whole_even_without_its_plugin(
    host: Host, probe: Probe, run_host: RunHost
) -> None:
    await emit(probe.context, 1, stream="treasury")
    await emit(probe.context, 2, 3, hook=treasured)
    await emit(probe.context, 4, stream="treasury")
    without = await run_host(plugins=[])
    assert await trim(without) == 0
    assert await left(host) == [1, 2, 3, 4]


async def cursor(host: Host, position: int, *, served: str = "now()") -> None:
    await query(
        host,
        "INSERT INTO event_cursors (plugin, worker_group, position, served_at) "
        f"VALUES ('probe', 'group', :position, {served})",
        position=position,
    )


async def test_what_a_worker_group_has_yet_to_handle_stays(host: Host, probe: Probe) -> None:
    events = await emit(probe.context, 1, 2, 3, 4)
    await cursor(host, events[1].position)
    assert await trim(host) == 2
    assert await left(host) == [3, 4]


async def test_a_group_that_nobody_has_served_for_as_long_holds_nothing_back(
    host: Host, probe: Probe
) -> None:
    await emit(probe.context, 1, 2, 3, 4)
    await cursor(host, 0, served="now() - interval '31 days'")
    assert await trim(host) == 3


async def test_what_a_slow_instance_has_yet_to_read_stays_and_what_it_has_read_last(
    host: Host, probe: Probe
) -> None:
    events = await emit(probe.context, 1, 2, 3, 4)
    await query(
        host,
        "INSERT INTO event_instances VALUES (gen_random_uuid(), :position, now() - interval '29 days')",
        position=events[1].position,
    )
    assert await trim(host) == 1
    assert await left(host) == [2, 3, 4]


async def test_an_instance_that_is_gone_for_good_is_forgotten(host: Host, probe: Probe) -> None:
    await emit(probe.context, 1, 2, 3)
    await query(host, "INSERT INTO event_instances VALUES (gen_random_uuid(), 0, now() - interval '31 days')")
    await query(
        host,
        "UPDATE event_instances SET cursor = 1000000 WHERE cursor > 0 OR seen_at > now() - interval '1 h'",
    )
    await query(host, "UPDATE events SET occurred_at = occurred_at - interval '31 days'")
    assert await Retention(host.runtime.database.sessions, KEEP).trim() == 2


async def test_what_was_set_aside_stays(host: Host, probe: Probe) -> None:
    events = await emit(probe.context, 1, 2, 3)
    await query(
        host,
        "INSERT INTO failed_events (plugin, worker_group, position, attempts, error, failed_at) "
        "VALUES ('probe', 'group', :position, 1, 'broken', now())",
        position=events[0].position,
    )
    assert await trim(host) == 1
    assert await left(host) == [1, 3]


async def test_while_another_instance_trims_this_one_does_not(host: Host, probe: Probe) -> None:
    await emit(probe.context, 1, 2)
    async with host.runtime.database.sessions.begin() as session:
        await session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('ringfence.retention', 0))")
        )
        assert await trim(host) == 0
    assert await trim(host) == 1


async def test_more_than_fits_into_one_transaction_goes_too(
    host: Host, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.eventlog.history.retention.BATCH", 2)
    await emit(probe.context, 1, 2, 3, 4, 5, 6)
    assert await trim(host) == 5


async def test_a_running_instance_trims_by_itself_after_the_time_in_its_settings(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.housekeeping.EVERY", "1s")
    probe = Probe()
    host = await run_host(plugins=[probe], event_retention_days=3)
    await emit(probe.context, 1, 2, 3)
    await query(host, "UPDATE events SET occurred_at = occurred_at - interval '2 days' WHERE position = 2")
    await query(host, "UPDATE events SET occurred_at = occurred_at - interval '4 days' WHERE position = 1")

    async def trimmed() -> bool:
        return await left(host) == [2, 3]

    assert await eventually(trimmed)
