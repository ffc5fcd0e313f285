"""The event log is searched and followed; what is in an event is shown to who may see it; failed ones are replayed."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from ringfence.eventlog import search
from ringfence.host import Host
from ringfence.testing import RunHost, eventually

from tests.pages.conftest import Browse
from tests.pages.own.probe import Note, Probe, hidden, shown, toiled

READ = ["host.event.read"]


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def host(run_host: RunHost, probe: Probe) -> Host:
    return await run_host(plugins=[probe])


def listed(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<td class="number"[^>]*><a href="/events/(\d+)">', page)]


async def test_events_are_found_by_all_that_is_known_of_them(
    host: Host, probe: Probe, browse: Browse
) -> None:
    admin, reader = await browse(host), await browse(host, rules=READ)
    emit = probe.context.emit_hook
    one = await emit(
        shown, Note(words="open <secret>"), standalone=True, actor="ann", reason="Because of <b>Rain</b>"
    )
    two = await emit(hidden, Note(words="closed secret"), standalone=True, actor="bob")
    three = await emit(shown, Note(words="x" * 300_000), standalone=True, actor="ann")
    a, b, c = one.position, two.position, three.position
    now = dt.datetime.now(dt.UTC)
    before, after = (now + dt.timedelta(hours=hours) for hours in (-1, 1))

    async def found(**query: str) -> list[int]:
        answer = await admin.http.get("/events", params=query)
        assert answer.status_code == 200
        return listed(answer.text)

    assert await found() == [c, b, a]
    assert await found(stream="notes") == [c, a]
    assert await found(hook="note-hidden") == [b]
    assert await found(actor="ann", words="because OF <B>") == [a]
    assert await found(words="%") == []
    assert await found(since=before.isoformat(), until=after.isoformat()) == [c, b, a]
    assert await found(since=f"{after:%Y-%m-%dT%H:%M}") == await found(until=f"{before:%Y-%m-%dT%H:%M}") == []
    assert await found(since=one.occurred_at.isoformat(), until=three.occurred_at.isoformat()) == [b, a]
    assert await found(after=str(c)) == [b, a]
    wrong = await admin.http.get("/events", params={"since": "yesterday<"})
    assert "This is not a time" in wrong.text
    assert 'value="yesterday&lt;"' in wrong.text
    assert (await admin.get("/events?after=x")).status_code == 422

    assert "open &lt;secret&gt;" in (await admin.get("/events")).text
    assert "closed secret" not in (await admin.get("/events")).text
    assert "&lt;secret&gt;" not in (await reader.get("/events")).text
    page = (await admin.get(f"/events/{a}")).text
    assert "open &lt;secret&gt;" in page
    assert f'href="/events/{c}" rel="next"' in page
    assert "The payload of this hook is never shown." in (await admin.get(f"/events/{b}")).text
    assert "It needs the access rule probe.note.read." in (await reader.get(f"/events/{a}")).text
    long = (await admin.get(f"/events/{c}")).text
    assert "The first 200,000 of" in long
    assert len(long) < 210_000
    for nowhere in (c + 1, "x", "9" * 30):
        assert (await admin.get(f"/events/{nowhere}")).status_code == 404


async def test_a_search_looks_at_so_many_events_and_goes_on_from_there(
    host: Host, probe: Probe, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_LOOKED_AT", 5)
    first = await probe.context.emit_hook(shown, Note(words="first"), standalone=True, actor="ann")
    for _ in range(7):
        last = await probe.context.emit_hook(hidden, Note(words="x"), standalone=True, actor="bob")
    admin = await browse(host)
    page = (await admin.get("/events?actor=ann")).text
    assert listed(page) == []
    further = re.search(r'href="(/events\?[^"]+)" rel="next"', page)
    assert further is not None
    assert f"after={last.position - 4}" in further[1]
    page = (await admin.get(further[1].replace("&amp;", "&"))).text
    assert listed(page) == [first.position]
    assert 'rel="next"' not in page


async def test_failed_events_are_replayed_one_by_one_or_all(host: Host, probe: Probe, browse: Browse) -> None:
    admin, reader = await browse(host), await browse(host, rules=READ)
    for words in "abc":
        await probe.context.emit_hook(toiled, Note(words=words), standalone=True)

    async def failed() -> list[str]:
        page = (await admin.get("/events/failed")).text
        ids: list[str] = re.findall('name="id" value="([0-9]+)"', page)
        return ids if page.count("it cannot be &lt;handled&gt;") == 3 else []

    ids = await eventually(failed)
    assert len(ids) == 3
    assert (await reader.get("/events/failed")).status_code == 403
    assert (await reader.act("/events/failed/replay", id=ids[0])).status_code == 403
    assert (await admin.post("/events/failed/replay", {"id": ids[0]})).status_code == 403
    assert (await admin.act("/events/failed/replay", id="x")).status_code == 422
    assert (await admin.act("/events/failed/replay", id="999999")).status_code == 404
    assert probe.handled == []

    probe.fails = False
    assert (await admin.act("/events/failed/replay", id=ids[1])).status_code == 303
    await eventually(lambda: handled(probe, 1))
    assert probe.handled == ["b"]
    assert (await admin.act("/events/failed/replay", all="yes")).status_code == 303
    await eventually(lambda: handled(probe, 3))
    assert probe.handled == ["b", "a", "c"]

    async def none_left() -> bool:
        return "No event has failed." in (await admin.get("/events/failed")).text

    assert await eventually(none_left)
    await admin.act("/events/failed/replay", all="yes")
    assert "There is no failed event to replay." in (await admin.get("/events/failed")).text


async def handled(probe: Probe, count: int) -> bool:
    return len(probe.handled) == count
