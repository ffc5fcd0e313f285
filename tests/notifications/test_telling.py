"""What happens is told to people for real: by mail and by HTTP, on a real host with a real database."""

from __future__ import annotations

import threading

import pytest
from ringfence import AnyEvent
from ringfence.testing import eventually
from ringfence_notifications.routing.compiled import CompiledRoute, Matched
from ringfence_notifications.service import Severity, UnknownChannelError

from tests.notifications.conftest import BASE, DoorMoved, Telling, door_opened, house_sold
from tests.notifications.receivers import Inbox


async def test_what_happens_is_told_to_every_channel_and_its_end_too(
    telling: Telling, mail: Inbox, web: Inbox
) -> None:
    await telling.add("ops", mail.address)
    await telling.add("chat", web.address)
    await telling.open("gate", note="since noon")
    [by_mail], [by_web] = await mail.wait_for(1), await web.wait_for(1)
    assert (by_mail["title"], by_mail["message"]) == ("The gate of home is open", "since noon")
    assert (by_web["title"], by_web["message"], by_web["type"]) == (
        "The gate of home is open",
        "since noon",
        "failure",
    )
    await telling.open("gate")
    await telling.close("gate")
    await mail.wait_for(2)
    recovered = (await web.wait_for(2))[1]
    assert (recovered["title"], recovered["type"]) == ("Recovered: The gate of home is open", "success")
    assert recovered["message"].startswith("It was closed.\nIt began at ")
    messages = await telling.all_sent()
    assert len(messages) == 4
    ids = {one["id"] for one in messages}
    assert {one["id"] for one in (*mail.messages, *web.messages)} == ids, "a message tells which one it is"
    lost = await telling.listed("suppressed")
    assert {(one["channel"], one["why"], one["events"]) for one in lost} == {
        ("chat", "already-told", 1),
        ("ops", "already-told", 1),
    }
    await telling.open("gate", house="barn")
    assert len(await telling.all_sent()) == 4


async def test_many_at_once_are_one_message_and_those_who_were_told_hear_of_the_end(
    telling: Telling, web: Inbox
) -> None:
    await telling.add("ops", web.address)
    await telling.change_route("open-doors", windowSeconds=600.0)
    await telling.doors.emit(
        door_opened, *(DoorMoved(door=f"door {number}", house="home") for number in range(50))
    )
    await eventually(lambda: _are_lasting(telling, 50))
    await telling.time_passes(600)
    [message] = await web.wait_for(1)
    assert message["title"] == "50 open doors"
    assert message["message"].splitlines()[-1] == "and 30 more"
    assert all(one["told"] == ["ops"] for one in await telling.listed("incidents", lasting=True))
    await telling.close("door 7")
    await eventually(lambda: _are_lasting(telling, 49))
    await telling.time_passes(600)
    assert (await web.wait_for(2))[1]["title"] == "Recovered: The door 7 of home is open"


async def test_what_is_gone_ends_all_incidents_that_it_had_a_part_in(telling: Telling) -> None:
    for door, house in (("gate", "home"), ("hatch", "home"), ("gate", "mill")):
        await telling.open(door, house=house)
    await eventually(lambda: _are_lasting(telling, 3))
    await telling.doors.emit(house_sold, DoorMoved(door="", house="home"))
    await eventually(lambda: _are_lasting(telling, 1))
    [left] = await telling.listed("incidents", lasting=True)
    assert left["title"] == "The gate of mill is open"


async def _are_lasting(telling: Telling, count: int) -> bool:
    return len(await telling.listed("incidents", lasting=True)) == count


async def test_whoever_acknowledges_is_not_reminded(telling: Telling, web: Inbox) -> None:
    await telling.add("ops", web.address)
    await telling.open("gate")
    await telling.open("hatch", house="barnacle")
    await web.wait_for(2)
    first, second = sorted(await telling.listed("incidents"), key=lambda one: int(one["id"]))
    acknowledged = (await telling.api.post(f"{BASE}/incidents/{first['id']}/ack")).json()
    assert acknowledged["acknowledgedBy"]
    await telling.time_passes(3600)
    assert (await web.wait_for(3))[2]["title"] == "Still: The hatch of barnacle is open"
    assert second["acknowledgedBy"] is None
    await telling.close("gate")
    await eventually(lambda: _has(web, "Recovered: The gate of home is open"))
    over = await telling.api.post(f"{BASE}/incidents/{first['id']}/ack")
    assert (over.status_code, over.json()["title"]) == (409, "The incident is over")


async def _has(inbox: Inbox, title: str) -> bool:
    return title in inbox.titles


async def test_only_what_a_channel_wants_is_told_to_it(telling: Telling, mail: Inbox, web: Inbox) -> None:
    await telling.add("ops", mail.address, atLeast="critical")
    await telling.add("chat", web.address)
    await telling.open("gate", severity="warning")
    await telling.open("vault", house="bank", severity="critical")
    assert len(await web.wait_for(2)) == 2
    assert [one["title"] for one in await mail.wait_for(1)] == ["The vault of bank is open"]
    await telling.close("gate")
    await web.wait_for(3)
    await telling.all_sent()
    assert len(mail.messages) == 1
    assert {(one["channel"], one["why"]) for one in await telling.listed("suppressed")} == {
        ("ops", "less-severe")
    }


async def test_of_a_route_that_is_switched_off_nothing_more_is_told(telling: Telling, web: Inbox) -> None:
    await telling.add("ops", web.address)
    await telling.open("gate")
    await web.wait_for(1)
    await telling.change_route("open-doors", windowSeconds=600.0)
    await telling.open("hatch")
    await eventually(lambda: _are_lasting(telling, 2))
    await telling.change_route("open-doors", enabled=False)
    assert await _are_lasting(telling, 0)
    await telling.close("gate")
    await telling.time_passes(7200)
    lost = await telling.listed("suppressed")
    assert [(one["channel"], one["why"], one["events"]) for one in lost] == [("ops", "route-switched-off", 1)]
    assert web.titles == ["The gate of home is open"]


async def test_what_happens_while_there_is_no_channel_is_counted(telling: Telling) -> None:
    await telling.open("gate")

    async def counted() -> bool:
        lost = await telling.listed("suppressed")
        return [(one["channel"], one["why"], one["events"]) for one in lost] == [(None, "no-channel", 1)]

    assert await eventually(counted)


async def test_a_channel_that_is_down_holds_up_no_other_and_gets_its_messages_later(
    telling: Telling, mail: Inbox, web: Inbox
) -> None:
    await telling.add("ops", mail.address)
    await telling.add("chat", web.address)
    web.open.clear()
    await telling.open("gate")
    await mail.wait_for(1)
    await telling.open("hatch")
    assert len(await mail.wait_for(2)) == 2
    assert web.messages == []
    web.open.set()
    assert len(await web.wait_for(2)) == 2


async def test_what_cannot_be_delivered_is_tried_again_and_then_kept_for_people_to_see(
    telling: Telling, mail: Inbox, web: Inbox
) -> None:
    await telling.add("ops", mail.address)
    await telling.add("chat", web.address)
    await telling.change_route("undelivered-messages", windowSeconds=0.0)
    web.answers = False
    await telling.open("gate")

    async def tried(status: str) -> dict[str, object] | None:
        found = [one for one in await telling.listed("messages", channel="chat") if one["status"] == status]
        return found[0] if found and found[0]["error"] else None

    waiting = await eventually(lambda: tried("pending"))
    assert waiting is not None
    assert waiting["attempts"] == 1
    assert "has a fault of its own, or is overloaded" in str(waiting["error"])
    assert "t0ken" not in str(waiting)
    # As if it had been tried seven times, and the next time were now.
    await telling.execute(
        "UPDATE notifications_messages SET begun = 7, ended = 7, next_at = clock_timestamp() WHERE channel = 'chat'"
    )
    await telling.open("hatch")
    failed = await eventually(lambda: tried("failed"))
    assert failed is not None
    assert failed["attempts"] == 8
    await eventually(lambda: _has(mail, "The channel chat does not take messages"))
    assert "t0ken" not in str(mail.messages)
    web.answers = True
    again = await telling.api.post(f"{BASE}/messages/{failed['id']}/retry")
    assert again.json() == {"retried": [failed["id"]]}
    await eventually(lambda: _has(web, "The gate of home is open"))
    assert (await telling.api.post(f"{BASE}/messages/{failed['id']}/retry")).status_code == 404


async def test_other_plugins_have_people_told_if_their_transaction_is_committed(
    telling: Telling, web: Inbox
) -> None:
    await telling.add("ops", web.address)
    notify, sessions = telling.doors.notifications.notify, telling.doors.context.sessions
    async with sessions() as undone:
        await notify(undone, channel="ops", title="never", text="", severity=Severity.INFO)
    async with sessions.begin() as session:
        await notify(
            session,
            channel="ops",
            title="restarted",
            text="web",
            severity=Severity.INFO,
            link="https://a.example/1",
        )
    [message] = await web.wait_for(1)
    assert (message["title"], message["message"], message["type"]) == (
        "restarted",
        "web\nhttps://a.example/1",
        "info",
    )
    async with sessions.begin() as session:
        with pytest.raises(UnknownChannelError, match="there is no channel nobody"):
            await notify(session, channel="nobody", title="a", text="", severity=Severity.INFO)
    assert await telling.doors.notifications.channels() == ["ops"]


async def test_routes_judge_events_beside_the_event_loop(
    telling: Telling, web: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dozen expressions may take seconds together, in which nobody else would be answered."""
    judge, threads = CompiledRoute.matches, set()

    def watched(self: CompiledRoute, event: AnyEvent) -> list[Matched]:
        threads.add(threading.current_thread())
        return judge(self, event)

    monkeypatch.setattr(CompiledRoute, "matches", watched)
    await telling.add("ops", web.address)
    await telling.open("gate")
    await web.wait_for(1)
    assert threads
    assert threading.main_thread() not in threads
