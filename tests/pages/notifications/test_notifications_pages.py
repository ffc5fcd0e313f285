"""The pages of notifications: channels without their addresses, routes with errors beside the fields, incidents."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from ringfence import PluginInfo, hookimpl
from ringfence.host import Host
from ringfence.pages import Page, Pages, View
from ringfence.testing import RunHost, client, eventually, installed

from tests.notifications.conftest import DoorsPlugin, Telling, mail, web
from tests.notifications.receivers import Inbox
from tests.pages.conftest import Browse

__all__ = ["mail", "web"]

BASE = "/notifications"
READ = ["notifications.channel.read"]
HOSTILE = "<img src=x onerror=alert(1)>\u202e{{ 7777777 * 3 }}"
SHOWN = "&lt;img src=x onerror=alert(1)&gt;\\u202e"


class ChecksPage:
    """Somebody else's page of checks."""

    info = PluginInfo(id="checks-page", version="1")

    @hookimpl
    def pages(self) -> Pages:
        return Pages(
            package="tests.pages.shown",
            pages=[Page(path="/checks/{id}", title="Check", template="thing.html", show=self.show)],
        )

    async def show(self, view: View) -> Mapping[str, Any]:
        return {"words": "a check", "id": view.parameters["id"]}


@pytest.fixture
async def telling(run_host: RunHost) -> AsyncIterator[Telling]:
    doors = DoorsPlugin()
    host = await run_host(plugins=[*installed("notifications"), doors, ChecksPage()])
    async with client(host) as http:
        yield Telling(host, http, doors)


@pytest.fixture
def host(telling: Telling) -> Host:
    return telling.host


def error_of(page: str, field: str) -> str:
    found = re.search(f'<p class="error" id="error-{field}">([^<]*)', page)
    return "" if found is None else found[1]


async def test_a_channel_is_added_tried_changed_and_removed_and_its_address_is_in_no_answer(
    telling: Telling, host: Host, browse: Browse, web: Inbox
) -> None:
    browser = await browse(host)
    answers = [await browser.get(BASE)]
    assert "There is no channel yet: nobody is notified." in answers[0].text
    answers.append(await browser.act(f"{BASE}/channels", name="ops", address=web.address))
    assert answers[-1].headers["location"] == f"{BASE}/channels/ops"
    answers.append(await browser.get(f"{BASE}/channels/ops"))
    assert "<bdi>json://…</bdi>" in answers[-1].text
    answers.append(await browser.act(f"{BASE}/channels/ops/test"))
    assert "accepted the message" in answers[-1].text
    web.answers = False
    answers.append(await browser.act(f"{BASE}/channels/ops/test"))
    assert "did not accept the message" in answers[-1].text
    quiet = {"begins": "22:00", "ends": "07:00", "zone": "Europe/Berlin", "passes": "critical"}
    form = {"enabled": "yes", "atLeast": "error", "perHour": "20", **quiet}
    answers.append(await browser.act(f"{BASE}/channels/ops", **form))
    assert answers[-1].status_code == 303, answers[-1].text
    answers.append(await browser.get(BASE))
    assert "22:00 to 07:00" in answers[-1].text
    answers.append(await browser.act(f"{BASE}/channels/ops/address", address=web.address))
    assert answers[-1].status_code == 303
    [kept] = await telling.listed("channels")
    assert (kept["atLeast"], kept["perHour"], kept["quiet"]["zone"]) == ("error", 20, "Europe/Berlin")
    answers.append(await browser.act(f"{BASE}/channels/ops/remove"))
    assert (await browser.get(f"{BASE}/channels/ops")).status_code == 404
    for answer in answers:
        assert "t0ken-in-the-path" not in answer.text + str(answer.headers)


WRONG_CHANNELS = [
    ({"name": "ops", "address": "t0ken-in-the-path"}, "address", "an address begins with its kind"),
    ({"name": "ops", "address": "dbus://t0ken-in-the-path"}, "address", "acts on the machine"),
    ({"name": "ops", "address": "nonsense://t0ken-in-the-path"}, "address", "nonsense:// is no kind"),
    ({"name": "ops", "address": "tgram://t0ken-in-the-path"}, "address", "such as tgram://{bot_token}"),
    ({"name": "ops", "address": "json://{{ secrets.NONE }}"}, "address", "secret NONE does not exist"),
    ({"name": "O ps", "address": "json://t0ken-in-the-path"}, "name", "lower-case letters"),
    ({"address": "json://t0ken-in-the-path"}, "name", "lower-case letters"),
]
WRONG_SETTINGS = [
    ({"perHour": "0"}, "perHour", "from 2 to 1000"),
    ({"perHour": "many"}, "perHour", "from 2 to 1000"),
    ({"begins": "22:00"}, "ends", "such as 07:00"),
    ({"begins": "25:00", "ends": "07:00"}, "begins", "such as 22:00"),
    ({"begins": "22:00", "ends": "22:00"}, "ends", "must not begin when they end"),
    ({"begins": "22:00", "ends": "07:00", "zone": "Nowhere/<b>"}, "zone", "no such time zone"),
]


async def test_what_is_wrong_with_a_channel_stands_beside_the_field_without_its_address(
    telling: Telling, host: Host, browse: Browse, web: Inbox
) -> None:
    browser = await browse(host)
    for form, field, said in WRONG_CHANNELS:
        answer = await browser.act(f"{BASE}/channels", **form)
        assert (answer.status_code, "t0ken-in-the-path" in answer.text) == (422, False), form
        assert said in error_of(answer.text, field), (form, answer.text)
    assert await telling.listed("channels") == []
    await telling.add("ops", web.address)
    usual = {"enabled": "yes", "atLeast": "info", "perHour": "30", "zone": "UTC", "passes": "critical"}
    for changed, field, said in WRONG_SETTINGS:
        answer = await browser.act(f"{BASE}/channels/ops", **{**usual, **changed})
        assert answer.status_code == 422, changed
        assert said in error_of(answer.text, field), (changed, error_of(answer.text, field))


async def test_an_incident_is_acknowledged_by_whoever_may(
    telling: Telling, host: Host, browse: Browse, web: Inbox
) -> None:
    await telling.add("ops", web.address)
    await telling.change_route("open-doors", link="/checks/{{ event.house }}")
    await telling.open("gate", house=f"x{HOSTILE}")
    await telling.open("door")
    await eventually(lambda: _lasting(telling, 2))
    reader, admin = await browse(host, rules=READ), await browse(host)
    page = (await reader.get(BASE)).text
    assert SHOWN in page
    assert ("23333331" in page, "<img" in page, "Acknowledge<" in page) == (False, False, False)
    assert 'href="/checks/home"' in page
    panel = (await admin.get("/checks/home")).text
    assert ("The door of home is open" in panel, "Acknowledge<" in panel) == (True, True)
    assert "is open" not in (await admin.get("/checks/other")).text
    page = (await admin.get(f"{BASE}/incidents?lasting=yes")).text
    paths = re.findall(f'action="({BASE}/incidents/[0-9]+/ack)"', page)
    assert len(paths) == 2
    assert (await reader.act(paths[0])).status_code == 403
    done = await admin.act(paths[0], back="//evil.test")
    assert (done.status_code, done.headers["location"]) == (303, BASE)
    page = (await admin.get(f"{BASE}/incidents?lasting=yes")).text
    assert page.index("acknowledged by") < page.index("Acknowledge<"), "the newest first"
    page = (await admin.get(BASE)).text
    assert page.index("Acknowledge<") < page.index("acknowledged by"), "what somebody should see to first"
    assert (await admin.act(f"{BASE}/incidents/0/ack")).status_code == 404
    assert (await admin.act(f"{BASE}/incidents/xx/ack")).status_code == 404
    await telling.close("door")
    await eventually(lambda: _lasting(telling, 1))
    assert (await admin.act(paths[0])).status_code == 409


async def _lasting(telling: Telling, count: int) -> bool:
    return len(await telling.listed("incidents", lasting="true")) == count


async def test_messages_that_failed_are_told_of_first_and_sent_again(
    telling: Telling, host: Host, browse: Browse, web: Inbox
) -> None:
    await telling.add("ops", web.address)
    web.answers = False
    await telling.open("gate", note=HOSTILE)

    async def tried() -> bool:
        return any(one["error"] for one in await telling.listed("messages"))

    await eventually(tried)
    await telling.execute(
        "UPDATE notifications_messages SET status = 'failed', error = :error", error=HOSTILE
    )
    browser, reader = await browse(host), await browse(host, rules=READ)
    overview = (await browser.get("/")).text
    assert "1 message was not delivered to anybody." in overview
    assert "The channel ops refuses messages" in overview
    page = (await reader.get(f"{BASE}/messages?status=failed")).text
    assert (page.count(SHOWN) >= 2, "Send again" in page, "<img" in page) == (True, False, False)
    page = (await browser.get(f"{BASE}/messages?status=failed")).text
    [path] = re.findall(f'action="({BASE}/messages/[0-9a-f-]+/retry)"', page)
    assert (await reader.act(path)).status_code == 403
    web.answers = True
    assert (await browser.act(path)).headers["location"] == f"{BASE}/messages"
    await telling.all_sent()
    assert (await browser.act(path)).status_code == 404
    assert (await browser.act(f"{BASE}/messages/xx/retry")).status_code == 404
    assert "0 messages are sent again." in (await _said(browser, f"{BASE}/messages/retry"))
    assert (await browser.get(f"{BASE}/messages?status=x")).status_code == 422


async def _said(browser: object, path: str) -> str:
    from tests.pages.conftest import Browser

    assert isinstance(browser, Browser)
    answer = await browser.act(path)
    return (await browser.get(answer.headers["location"])).text


ROUTE = {
    "name": "loud-doors",
    "hook": "door-opened",
    "filter": 'event.severity == "error"',
    "title": "{{ event.door }}",
    "severity": "warning",
    "what": "loud doors",
    "windowSeconds": "30",
    "repeatSeconds": "",
    "againSeconds": "900",
    "recoveries": "[]",
    "key": "{{ event.house }}\r\n{{ event.door }}\r\n",
    "enabled": "yes",
}
WRONG_ROUTES = [
    ({"name": "Loud doors"}, "name", "lower-case letters"),
    ({"name": "open-doors"}, "name", "There is already a route with this name"),
    ({"hook": "no-such-hook"}, "hook", "no plugin declares the hook"),
    ({"hook": "notification-sent"}, "hook", "would never end"),
    ({"filter": "event.nothing == 1"}, "filter", "nothing"),
    ({"filter": "event.door"}, "filter", "must be true or false"),
    ({"title": "{{ event. }}"}, "title", ""),
    ({"severity": "very bad"}, "severity", "must be one of"),
    ({"key": "{{ 1 + }}"}, "key", ""),
    ({"recoveries": "[{"}, "recoveries", "This is not JSON"),
    ({"recoveries": '[{"hook": "door-closed", "filter": "event.x"}]'}, "recoveries", ""),
    ({"recoveries": '[{"hook": "door-closed", "more": 1}]'}, "recoveries", "0.more"),
    ({"windowSeconds": "soon"}, "windowSeconds", "number of seconds"),
    ({"windowSeconds": "nan"}, "windowSeconds", "finite"),
    ({"repeatSeconds": "1"}, "repeatSeconds", "60"),
]


async def test_a_route_is_written_by_a_form_and_what_is_wrong_stands_beside_the_field(
    telling: Telling, host: Host, browse: Browse, web: Inbox
) -> None:
    browser = await browse(host)
    for changed, field, said in WRONG_ROUTES:
        answer = await browser.act(f"{BASE}/new-route", **{**ROUTE, **changed})
        assert answer.status_code == 422, changed
        error = error_of(answer.text, field)
        assert error, (changed, re.findall('class="error"[^<]*', answer.text))
        assert said in error, (changed, error)
    await telling.add("ops", web.address)
    made = await browser.act(f"{BASE}/new-route", **ROUTE, **{"to-ops": "yes"})
    assert made.headers["location"] == f"{BASE}/routes/loud-doors"
    [route] = [one for one in await telling.listed("routes") if one["name"] == "loud-doors"]
    assert (route["key"], route["channels"]) == (["{{ event.house }}", "{{ event.door }}"], ["ops"])
    page = (await browser.get(f"{BASE}/routes/loud-doors")).text
    assert "{{ event.house }}\n{{ event.door }}" in page
    assert (await browser.act(f"{BASE}/routes/loud-doors/remove")).headers["location"] == BASE
    assert (await browser.get(f"{BASE}/routes/loud-doors")).status_code == 404


async def test_a_built_in_route_is_changed_and_taken_back(
    telling: Telling, host: Host, browse: Browse
) -> None:
    browser, reader = await browse(host), await browse(host, rules=READ)
    path = f"{BASE}/routes/open-doors"
    assert "This route is built in." in (await browser.get(path)).text
    assert (await browser.act(f"{path}/remove")).status_code == 409
    assert '<button class="main">Save' not in (await reader.get(path)).text
    form = {key: value for key, value in ROUTE.items() if key != "name"}
    assert (await reader.act(path, **form)).status_code == 403
    assert (await browser.act(path, **form)).status_code == 303
    assert "overrides a built-in route" in (await browser.get(path)).text
    assert (await browser.act(f"{path}/remove")).headers["location"] == path
    assert "This route is built in." in (await browser.get(path)).text


async def test_nothing_is_shown_or_done_without_the_rules(
    telling: Telling, host: Host, browse: Browse, web: Inbox
) -> None:
    await telling.add("ops", web.address)
    nobody, reader = await browse(host, rules=["host.plugin.read"]), await browse(host, rules=READ)
    pages = [
        BASE,
        *(f"{BASE}/{one}" for one in ("incidents", "messages", "channels/ops", "routes/open-doors")),
    ]
    for path in pages:
        assert (await reader.get(path)).status_code == 200, path
        assert (await nobody.get(path)).status_code == 403, path
    assert (await reader.get(f"{BASE}/new-route")).status_code == 403
    assert 'href="/notifications"' not in (await nobody.get("/")).text
    assert 'method="post" action="/notifications' not in "".join(
        [(await reader.get(one)).text for one in pages]
    )
    acts = ["channels", "channels/ops", "channels/ops/address", "channels/ops/test", "channels/ops/remove"]
    for act in [*acts, "new-route", "routes/open-doors", "routes/open-doors/remove", "messages/retry"]:
        assert (await reader.act(f"{BASE}/{act}")).status_code == 403, act
        assert (await reader.post(f"{BASE}/{act}", {"name": "ops"})).status_code == 403, act
    assert "ops" in (await reader.get("/find?q=ops")).text
    assert "ops" not in (await nobody.get("/find?q=ops")).text


def hidden(page: str) -> str:
    found = re.search('name="seen" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def test_of_two_who_change_a_channel_or_a_route_at_once_the_second_is_told(
    telling: Telling, host: Host, browse: Browse, web: Inbox
) -> None:
    browser = await browse(host)
    await telling.add("ops", web.address)
    path = f"{BASE}/channels/ops"
    form = {
        "enabled": "yes",
        "atLeast": "info",
        "perHour": "10",
        "seen": hidden((await browser.get(path)).text),
    }
    assert (await browser.act(path, **form)).status_code == 303
    late = await browser.act(path, **{**form, "perHour": "20"})
    assert late.status_code == 409
    assert "Somebody has changed this channel" in late.text
    assert 'name="perHour" type="text" value="20"' in late.text
    assert (await telling.listed("channels"))[0]["perHour"] == 10
    assert (
        await browser.act(path, **{**form, "perHour": "20", "seen": hidden(late.text)})
    ).status_code == 303

    assert (await browser.act(f"{BASE}/new-route", **ROUTE, **{"to-ops": "yes"})).status_code == 303
    path = f"{BASE}/routes/loud-doors"
    route = {**ROUTE, "to-ops": "yes", "seen": hidden((await browser.get(path)).text)}
    assert (await browser.act(path, **{**route, "againSeconds": "12345.625"})).status_code == 303
    assert 'value="12345.625"' in (await browser.get(path)).text
    late = await browser.act(path, **{**route, "severity": "error"})
    assert late.status_code == 409
    assert "Somebody has changed this route" in late.text
    again = await browser.act(path, **{**route, "severity": "error", "seen": hidden(late.text)})
    assert again.status_code == 303


async def test_a_route_to_a_channel_that_was_removed_is_not_saved_as_one_to_all(
    telling: Telling, host: Host, browse: Browse, web: Inbox
) -> None:
    browser = await browse(host)
    for name in ("ops", "all-hands"):
        await telling.add(name, web.address)
    assert (await browser.act(f"{BASE}/new-route", **ROUTE, **{"to-ops": "yes"})).status_code == 303
    assert (await browser.act(f"{BASE}/channels/ops/remove")).status_code == 303
    page = (await browser.get(f"{BASE}/routes/loud-doors")).text
    ticked = re.findall('name="to-([^"]+)" type="checkbox" value="yes" checked', page)
    assert ticked == ["ops"]
