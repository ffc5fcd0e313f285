"""Channels over HTTP and in the database: an address goes in, and nothing of it comes out anywhere."""

from __future__ import annotations

import logging

import pytest
from ringfence.testing import client, eventually
from structlog.testing import capture_logs

from tests.notifications.conftest import BASE, Telling
from tests.notifications.receivers import Inbox

SECRET_PARTS = ("pass-w0rd", "t0ken-in-the-path")


async def everything_stored(telling: Telling) -> str:
    tables = await telling.execute(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    return "\n".join([str(await telling.execute(f'SELECT * FROM "{table.name}"')) for table in tables])


async def test_nothing_of_an_address_is_in_any_answer_row_event_or_log(
    telling: Telling, mail: Inbox, web: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logged:
        made = [await telling.add("ops", mail.address), await telling.add("chat", web.address)]
        assert [one["kind"] for one in made] == ["mailto", "json"]
        mail.answers = web.answers = False
        tests = [(await telling.api.post(f"{BASE}/channels/{name}/test")).json() for name in ("ops", "chat")]
        assert [one["sent"] for one in tests] == [False, False]
        assert "does not take the user or the password" in tests[0]["error"]
        await telling.open("gate")

        await eventually(lambda: _both(telling))
        refused = await telling.api.put(f"{BASE}/channels/x", json={"address": ["json://a/pass-w0rd"]})
        nonsense = await telling.api.put(f"{BASE}/channels/x", json={"address": "nonsense://pass-w0rd/a"})
        local = await telling.api.put(f"{BASE}/channels/x", json={"address": "dbus://pass-w0rd"})
        assert [one.status_code for one in (refused, nonsense, local)] == [422, 422, 422]
        answers = [refused.text, nonsense.text, local.text, str(tests), str(made)]
        for what in ("channels", "messages", "incidents", "routes"):
            answers.append(str(await telling.listed(what)))
    everything = "\n".join([*answers, str(logged), caplog.text, await everything_stored(telling)])
    for part in SECRET_PARTS:
        assert part not in everything


async def _both(telling: Telling) -> bool:
    found = await telling.listed("messages")
    return len(found) == 2 and all(one["error"] for one in found)


async def test_an_address_may_refer_to_secrets_if_its_author_may_use_them(
    telling: Telling, web: Inbox
) -> None:
    token = web.address.rpartition("/")[2]
    address = web.address.replace(token, "{{ secrets.HOOK }}")
    missing = await telling.api.put(f"{BASE}/channels/ops", json={"address": address})
    assert (missing.status_code, "secret HOOK does not exist" in missing.text) == (422, True)
    await telling.api.put("/api/secrets/secrets/HOOK", json={"value": token})
    async with client(telling.host, name="ann", rules=["notifications.channel.manage"]) as ann:
        refused = await ann.put(f"{BASE}/channels/ops", json={"address": address})
        assert (refused.status_code, "secrets.secret.use" in refused.text) == (403, True)
    await telling.add("ops", address)
    users = (await telling.api.get("/api/secrets/secrets/HOOK/users")).json()
    assert users == {"users": ["channel ops"], "count": 1}
    assert (await telling.api.post(f"{BASE}/channels/ops/test")).json() == {"sent": True, "error": None}
    assert web.titles == ["Ringfence: a test"]


async def test_a_channel_is_changed_switched_off_and_removed(telling: Telling, web: Inbox) -> None:
    await telling.add("ops", web.address, quiet={"begins": "22:00", "ends": "07:00", "zone": "Europe/Berlin"})
    path = f"{BASE}/channels/ops"
    changed = (await telling.api.patch(path, json={"perHour": 5})).json()
    assert (changed["perHour"], changed["quiet"]["passes"], changed["enabled"]) == (5, "critical", True)
    for wrong in (
        {"perHour": 1},
        {"quiet": {"begins": "7", "ends": "8"}},
        {"quiet": {"begins": "07:00", "ends": "07:00"}},
    ):
        assert (await telling.api.patch(path, json=wrong)).status_code == 422
    wrong_zone = {"quiet": {"begins": "07:00", "ends": "08:00", "zone": "Mars/Olympus"}}
    assert "is no time zone" in (await telling.api.patch(path, json=wrong_zone)).text
    assert (await telling.api.patch(path, json={"enabled": False})).json()["enabled"] is False
    assert (await telling.api.delete(path)).status_code == 204
    assert (await telling.api.delete(path)).status_code == 404
    assert await telling.listed("channels") == []
    [kept] = await telling.execute("SELECT count(*) AS count FROM secrets_kept")
    assert kept.count == 0


async def test_who_may_do_what(telling: Telling, web: Inbox) -> None:
    await telling.add("ops", web.address)
    async with client(telling.host, name="ann", rules=["notifications.channel.read"]) as ann:
        assert (await ann.get(f"{BASE}/channels")).status_code == 200
        assert (await ann.delete(f"{BASE}/channels/ops")).status_code == 403
        assert (await ann.post(f"{BASE}/channels/ops/test")).status_code == 403
        assert (await ann.post(f"{BASE}/incidents/1/ack")).status_code == 403
        assert (
            await ann.put(f"{BASE}/routes/open-doors", json={"enabled": False, "change": True})
        ).status_code == 403
    async with client(telling.host, name="bob", rules=["notifications.incident.ack"]) as bob:
        assert (await bob.post(f"{BASE}/incidents/1/ack")).status_code == 404
        assert (await bob.get(f"{BASE}/channels")).status_code == 403
    bell = {"hook": "bell-rang", "title": "{{ event.door }}"}
    async with client(telling.host, name="eve", rules=["notifications.channel.manage"]) as eve:
        refused = await eve.put(f"{BASE}/routes/bell", json=bell)
        assert (refused.status_code, refused.json()["rule"]) == (403, "doors.bell.hear")
    hears = ["notifications.channel.manage", "doors.bell.hear"]
    async with client(telling.host, name="flo", rules=hears) as eve:
        assert (await eve.put(f"{BASE}/routes/bell", json=bell)).status_code == 200


async def test_routes_are_written_changed_and_are_again_as_they_came(telling: Telling) -> None:
    path = f"{BASE}/routes/open-doors"
    changed = await telling.change_route("open-doors", filter="event.door == 'gate'", severity="info")
    assert (changed["filter"], changed["title"]) == (
        "event.door == 'gate'",
        "The {{ event.door }} of {{ event.house }} is open",
    )
    wrong = await telling.api.put(path, json={"change": True, "filter": "event.dor == 'gate'"})
    assert (wrong.status_code, "door" in wrong.json()["detail"]) == (422, True)
    unknown = await telling.api.put(path, json={"change": True, "channels": ["nobody"]})
    assert "there is no channel nobody" in unknown.text
    assert (await telling.api.delete(path)).json() == {"removed": "open-doors", "comesWithout": True}
    [route] = [one for one in await telling.listed("routes") if one["name"] == "open-doors"]
    assert (route["filter"], route["builtIn"]) == ('event.house != "barn"', True)
    again = await telling.api.delete(path)
    assert (again.status_code, again.json()["title"]) == (409, "The route is built in")
    assert (await telling.api.delete(f"{BASE}/routes/none")).status_code == 404
