"""Delivery when something dies: at least once, twice at most, and then it is counted."""

from __future__ import annotations

from typing import Any

import pytest
from ringfence.testing import eventually
from ringfence_notifications.delivery.attempts import MAX_ATTEMPTS, next_attempt
from ringfence_notifications.delivery.delivering import Delivering

from tests.notifications.conftest import Telling
from tests.notifications.desk import NOON
from tests.notifications.receivers import Inbox


async def test_what_was_sent_and_not_recorded_is_sent_once_more_with_the_same_id_and_counted(
    telling: Telling, web: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Delivering._record
    lost: list[object] = []

    async def dies_first(self: Delivering, *arguments: Any) -> None:
        if not lost:
            lost.append(arguments)
            raise ConnectionError("the instance dies here, between sending and recording")
        await record(self, *arguments)

    monkeypatch.setattr(Delivering, "_record", dies_first)
    await telling.add("ops", web.address)
    await telling.open("gate")
    await web.wait_for(1)
    await eventually(lambda: _is_lost(lost))
    [message] = await telling.listed("messages")
    assert (message["status"], message["attempts"]) == ("pending", 0)
    # The lease of the one that died is over.
    await telling.execute("UPDATE notifications_messages SET claimed_until = clock_timestamp()")
    await telling.time_passes(200)
    first, second = await web.wait_for(2)
    assert (first["id"], first["title"]) == (second["id"], second["title"])
    [message] = await telling.all_sent()
    assert (message["status"], message["attempts"], message["maybeTwice"]) == ("sent", 1, True)
    await telling.open("hatch")
    await web.wait_for(3)
    assert [one["maybeTwice"] for one in await telling.all_sent()] == [False, True]


async def _is_lost(lost: list[object]) -> bool:
    return bool(lost)


def test_a_message_is_tried_for_some_hours_with_growing_pauses() -> None:
    times = [next_attempt(ended, NOON) for ended in range(1, MAX_ATTEMPTS + 1)]
    assert times[-1] is None
    pauses = [(at - NOON).total_seconds() for at in times[:-1] if at is not None]
    assert pauses == sorted(pauses)
    assert 3 * 3600 < sum(pauses) < 5 * 3600


async def test_nothing_is_left_lying_and_what_is_old_goes(telling: Telling, web: Inbox) -> None:
    await telling.add("ops", web.address)
    await telling.open("gate")
    await web.wait_for(1)
    await telling.close("gate")
    await web.wait_for(2)
    await telling.all_sent()
    for table, column in (("messages", "created_at"), ("incidents", "changed_at")):
        await telling.execute(f"UPDATE notifications_{table} SET {column} = {column} - interval '31 days'")
    await telling.change_route("open-doors", windowSeconds=600.0)
    await telling.open("hatch")

    async def is_gathered() -> bool:
        return len(await telling.listed("incidents", lasting=True)) == 1

    await eventually(is_gathered)
    # The job that would make the message is lost, whatever for.
    await telling.execute("DELETE FROM jobs WHERE status = 'waiting'")
    await telling.execute(
        "UPDATE notifications_tellings SET due_at = clock_timestamp() WHERE due_at IS NOT NULL"
    )
    await telling.execute("UPDATE timetables SET next_at = clock_timestamp() WHERE plugin = 'notifications'")
    await telling.execute("SELECT pg_notify('ringfence_jobs', '')")
    assert (await web.wait_for(3))[2]["title"] == "The hatch of home is open"
    assert [one["title"] for one in await telling.all_sent()] == ["The hatch of home is open"]
    assert [one["title"] for one in await telling.listed("incidents")] == ["The hatch of home is open"]
