"""The overview shows first what needs somebody, whatever one plugin does, and only what the viewer may see."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest
from ringfence.host import Host
from ringfence.pages import Attention, Count, Pages, View, asking
from ringfence.pages.site import Site
from ringfence.plugins.blocked_loop import HoldUp
from ringfence.testing import RunHost, eventually
from sqlalchemy import text

from tests.host.plugins import MadePlugin, Refusal
from tests.pages.conftest import Browse
from tests.pages.own.probe import TOIL, Note, Probe, Work, toiled

READS = ["host.plugin.read", "host.job.read", "host.event.read", "host.event.manage", "host.instance.read"]


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def host(run_host: RunHost, probe: Probe) -> Host:
    return await run_host(plugins=[probe])


def says(*lines: Attention) -> Callable[[View], Awaitable[Sequence[Attention]]]:
    async def attention(_: View) -> Sequence[Attention]:
        return lines

    return attention


async def test_all_is_well_until_something_is_not_and_each_line_leads_to_where_it_is_mended(
    host: Host, probe: Probe, browse: Browse
) -> None:
    admin, nobody = await browse(host), await browse(host, rules=["probe.note.read"])
    calm = (await admin.get("/")).text
    assert "Nothing needs attention." in calm
    assert "1,234,567" in calm
    assert calm.count('class="sparkline"') == 3
    assert calm.index("pressing notes") < calm.index("1,234,567") < calm.index("events in the last hour")

    await probe.context.emit_hook(toiled, Note(words="a"), standalone=True)
    await probe.context.enqueue(TOIL, Work(how="fail"))
    async with host.database.sessions.begin() as session:
        for statement in (
            "INSERT INTO event_instances VALUES (:gone, 0, clock_timestamp() - interval '1 minute')",
            "INSERT INTO event_instances VALUES (:late, 0, clock_timestamp() + interval '1 minute')",
            "INSERT INTO event_anchors (stream, version, hash, told) VALUES ('<kept>', 1, 'x', 1)",
            "INSERT INTO set_aside (plugin, origin, what, error, content) VALUES ('p', 'o', 'w', 'e', '')",
        ):
            await session.execute(text(statement), {"gone": uuid.uuid4(), "late": uuid.uuid4()})
    host.runtime.hold_ups.append(HoldUp(dt.datetime.now(dt.UTC), 2.5, {"plugin": "probe", "at": "x.py:1"}))

    async def told() -> str:
        page = (await admin.get("/")).text
        # An instance is lost only once the database has been up for long enough to have heard from it.
        awaited = ("1 job has failed.", "given up", "was lost")
        return page if all(words in page for words in awaited) else ""

    page = await eventually(told)
    for words, place in (
        ("1 job has failed.", "/jobs?status=failed"),
        ("1 event was given up after failing.", "/events/failed"),
        ("1 thing could not be written, and was set aside.", "/events/failed"),
        (
            "The history of &lt;kept&gt; does not say any more what was written.",
            "/events?hook=event-log-tampered",
        ),
        ("held up 1 time in the last hour, for up to 2.5 s, by probe.", "/this-host"),
        ("was lost: it was killed, has crashed, or was cut off.", None),
        ("s behind the event log.", None),
    ):
        [line] = [line for line in page.split("<li>") if words in line]
        assert (f'href="{place}"' in line) == (place is not None), line
    assert "Nothing needs attention." not in page
    hidden = (await nobody.get("/")).text
    for words in ("job has failed", "given up", "set aside", "&lt;kept&gt;", "held up"):
        assert words not in hidden


async def test_a_plugin_that_is_left_out_stands_first_with_a_way_to_why(
    run_host: RunHost, probe: Probe, browse: Browse
) -> None:
    async def refuse(_: object) -> None:
        raise Refusal("no")

    broken = MadePlugin("broken", optional=True, ready=refuse)
    host = await run_host(plugins=[probe, broken], may_fail=True)
    probe.attention = says(Attention("lighter <b>", "/x", "warn"), Attention("heavier", None, "bad", 99))
    page = (await (await browse(host)).get("/")).text
    places = [
        page.index(words) for words in ("heavier", "The plugin broken is left out.", "lighter &lt;b&gt;")
    ]
    assert places == sorted(places)
    assert 'href="/plugins/broken"' in page


@pytest.mark.parametrize("how", ["raises", "hangs", "says nonsense", "leads elsewhere", "answers at once"])
async def test_one_plugin_cannot_take_the_page_from_the_others(
    host: Host, probe: Probe, browse: Browse, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "hangs":
        monkeypatch.setattr(asking, "SECONDS", 0.5)

    async def attention(_: View) -> Sequence[Attention]:
        if how == "raises":
            raise RuntimeError("a secret of the code")
        if how == "hangs":
            await asyncio.Event().wait()
        if how == "says nonsense":
            return ["nonsense"]  # type: ignore[list-item]
        return [Attention("look here", "//evil.test" if how == "leads elsewhere" else "/tokens")]

    probe.attention = attention
    page = (await (await browse(host)).get("/")).text
    silent = "did not answer in time" in page
    assert silent == (how != "answers at once")
    assert ("look here" in page) == (how == "answers at once")
    assert "a secret of the code" not in page
    assert "events in the last hour" in page


async def test_few_plugins_are_asked_at_once_and_each_for_all_it_says_together() -> None:
    """More than a pool has would each open a connection for an overview, and close it again."""
    at_work: Counter[str] = Counter()
    most, together = 0, 0

    def asked(plugin: str) -> Callable[[View], Awaitable[Sequence[Any]]]:
        async def said(_: View) -> Sequence[Any]:
            nonlocal most, together
            at_work[plugin] += 1
            for _turn in range(20):
                await asyncio.sleep(0)
            most = max(most, len(+at_work))
            together += at_work[plugin] == 2
            for _turn in range(20):
                await asyncio.sleep(0)
            at_work[plugin] -= 1
            return ()

        return said

    site = Site()
    for plugin in (f"plugin-{number}" for number in range(12)):
        site.add(plugin, Pages(package="", attention=asked(plugin), counts=asked(plugin)), rules=())
    told = await asking.Asking(site).overview(cast("View", None))
    assert told.silent == []
    assert most == asking.SIDE_BY_SIDE
    assert together == 2 * 12


async def test_whoever_took_longest_is_asked_first_the_next_time() -> None:
    begun: list[str] = []

    def asked(plugin: str, turns: int) -> Callable[[View], Awaitable[Sequence[Attention]]]:
        async def said(_: View) -> Sequence[Attention]:
            begun.append(plugin)
            for _turn in range(turns):
                await asyncio.sleep(0)
            return ()

        return said

    def counted(plugin: str) -> Callable[[View], Awaitable[Sequence[Count]]]:
        async def said(_: View) -> Sequence[Count]:
            return [Count(plugin, 1)]

        return said

    site = Site()
    plugins = {f"plugin-{number}": 1 for number in range(3 * asking.SIDE_BY_SIDE)} | {"slow": 20_000}
    for plugin, turns in plugins.items():
        site.add(plugin, Pages(package="", attention=asked(plugin, turns), counts=counted(plugin)), rules=())
    overview = asking.Asking(site)
    before = await overview.overview(cast("View", None))
    assert begun[0] != "slow"
    begun.clear()
    after = await overview.overview(cast("View", None))
    assert begun[0] == "slow"
    assert [one.what for one in after.counts] == [one.what for one in before.counts] == list(plugins)


async def test_a_plugin_that_says_too_much_is_cut_and_the_rest_counted(
    host: Host, probe: Probe, browse: Browse
) -> None:
    probe.attention = says(*(Attention(f"trouble {number}", weight=number) for number in range(1000)))
    page = (await (await browse(host)).get("/")).text
    assert "trouble 999<" in page
    assert "trouble 3<" not in page
    assert "980 more are not shown" in page
