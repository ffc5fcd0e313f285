"""The page of one check: how it is and was, what its runs have shown, and what can be done with it."""

from __future__ import annotations

import datetime as dt
import html
import re
from dataclasses import replace
from typing import Any

from ringfence.access import Principal
from ringfence.pages import View
from ringfence.testing import eventually
from ringfence_health_checks.pages.report import limits_of, report_of
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_health_checks.results.history import Lasting, stretches

from tests.pages.checks.conftest import HOUR, MANAGE, READ, Fleet, numbers
from tests.pages.conftest import Browse
from tests.pages.test_pages import HOSTILE

RUN = [*READ, "health-checks.check.run"]


async def test_a_page_shows_how_a_check_is_and_was_and_what_its_runs_have_shown(
    fleet: Fleet, browse: Browse
) -> None:
    edge = await fleet.register("edge-1")
    check = await fleet.create(
        runsOn={"core": True, "satellites": [edge]}, assertions=["latencyMs < 0.5s else degraded"]
    )
    metrics = {"used": {"value": 71.0, "unit": "%", "warn": "80", "crit": "90"}, "<b>": 3}
    sandbox = {
        "enforced": {"network": True, "filesystem": False},
        "downgrades": ["filesystem: no overlay here"],
    }
    await fleet.report(check, "unhealthy", "it was full", ago=5 * HOUR, latency=900.0, metrics=metrics)
    await fleet.report(
        check, "healthy", "room again", metrics=metrics, detail={"stdout": "71 <i>%</i>", "sandbox": sandbox}
    )
    await fleet.report(check, "degraded", "slow", place=edge, ago=HOUR)
    browser = await browse(fleet.host)
    page = (await browser.get(f"/checks/{check}")).text
    assert "edge-1" in page
    assert "room again" in page
    assert "it was full" in page
    assert "71 &lt;i&gt;%" in page
    assert "Enforced: network." in page
    assert "Not enforced: file system." in page
    assert "no overlay here" in page
    timeline = page[page.index("States of the last 24h") :]
    assert re.findall(r"<title>([\w ]+)</title>", timeline) == ["no result", "unhealthy"]
    assert re.findall(r"<li>([\w ]+): ", timeline) == ["no result", "unhealthy"]
    here = f"/checks/{check}/numbers?span=24h&place=core"
    latency = numbers((await browser.get(here)).text)
    assert len(latency["times"]) == len(latency["series"][0]["values"]) == 288
    assert 900.0 in latency["series"][1]["values"]
    assert latency["thresholds"] == [
        {"name": "latencyMs < 0.5s else degraded", "value": 500.0, "kind": "warn"}
    ]
    used = numbers((await browser.get(f"{here}&metric=used")).text)
    assert [one for one in used["series"][0]["values"] if one is not None] == [71.0, 71.0]
    assert [(one["value"], one["kind"]) for one in used["thresholds"]] == [(80.0, "warn"), (90.0, "bad")]
    charts = (await browser.get(f"/checks/{check}?place=core")).text
    assert "metric=%3Cb%3E" in charts
    tables = re.findall(rf'<a href="(/checks/{check}/table[^"]+)">', charts)
    shown = [html.unescape((await browser.get(html.unescape(one))).text) for one in tables]
    assert "latencyMs < 0.5s else degraded" in shown[0]
    assert re.search(r'<td class="number"[^>]*>900</td>', shown[0])
    of_used = next(one for one in shown if "used (%)" in one)
    assert re.search(r"warning</span> <bdi>warning</bdi> 80 <bdi>%</bdi>", of_used)
    assert len(re.findall(r'<td class="number"[^>]*>71</td>', of_used)) == 2
    assert "<b>" not in "".join([(await browser.get(html.unescape(one))).text for one in tables])
    hostile = numbers((await browser.get(f"{here}&metric=%3Cb%3E")).text)
    assert 3.0 in hostile["series"][0]["values"]
    for span in ("7d", "30d"):
        longer = numbers((await browser.get(here.replace("24h", span))).text)
        assert 900.0 in longer["series"][1]["values"]
        assert (await browser.get(f"/checks/{check}?span={span}&place={edge}")).status_code == 200
    assert (await browser.get(here.replace("24h", "1y"))).status_code == 422
    assert (await browser.get(f"/checks/{check}?span=1y")).status_code == 422
    assert "edge-1" in (await browser.get(f"/checks/{check}/places")).text


async def test_results_come_page_by_page_and_an_open_page_is_told_of_a_new_one(
    fleet: Fleet, browse: Browse
) -> None:
    check = await fleet.create()
    for number in range(45):
        await fleet.report(check, "healthy" if number % 2 else "degraded", f"run-{number}.", ago=100 + number)
    browser = await browse(fleet.host)
    path, seen = f"/checks/{check}", []
    for _ in range(3):
        page = (await browser.get(f"{path}{'&' if '?' in path else '?'}fragment=health-checks.results")).text
        seen += re.findall(r"run-(\d+)\.", page)
        following = re.search(r'href="(\?[^"]*after=[^"]*)" rel="next"', page)
        path = f"/checks/{check}{following[1]}".replace("&amp;", "&") if following else path
    assert [int(one) for one in seen] == list(range(45))
    page = (await browser.get(f"/checks/{check}?status=degraded")).text
    results = page[page.index('data-part="health-checks.results"') :]
    assert "run-0." in results
    assert "run-1." not in results
    (fresh, seen_first) = re.findall(r'data-fresh="([^"]*)" data-seen="(\d+)"', page)[0]
    assert (await browser.get(fresh)).text == seen_first
    await fleet.report(check, "healthy", "the newest")
    assert (await browser.get(fresh)).text != seen_first
    assert "the newest" in (await browser.get(f"/checks/{check}?fragment=/checks/{{id}}")).text


async def test_each_button_does_what_it_says_for_those_who_may(fleet: Fleet, browse: Browse) -> None:
    check = await fleet.create(name="disk", script="echo looked")
    manager, reader, runner = [await browse(fleet.host, rules=rules) for rules in (MANAGE, READ, RUN)]
    one = f"/checks/{check}"
    buttons = ("Run now", "Silence", "Disable", "Delete", f"{one}/edit")
    managed = (await manager.get(one)).text
    assert [word for word in buttons if word not in managed] == []
    seen = (await reader.get(one)).text
    assert [word for word in buttons if word in seen.replace("Silenced", "")] == []
    assert "Run now" in (await runner.get(one)).text
    for stranger in (reader, runner):
        for what in ("silence", "disable", "enable", "delete", "edit"):
            assert (await stranger.act(f"{one}/{what}")).status_code == 403, what
        assert (await stranger.get(f"{one}/edit")).status_code == 403
        assert (await stranger.act("/checks/new")).status_code == 403
        assert (await stranger.get("/checks/schema")).status_code == 403
    assert (await reader.act(f"{one}/run")).status_code == 403
    assert (await manager.post(f"{one}/delete", {"yes": "1"})).status_code == 403, (
        "without the token of the form"
    )

    wrong = await manager.act(f"{one}/silence", **{"for": "3600", "reason": " "})
    assert wrong.status_code == 422
    assert "Enter a reason" in wrong.text
    wrong = await manager.act(f"{one}/silence", **{"for": "nan", "reason": "moving", "place": ""})
    assert wrong.status_code == 422
    assert 'value="moving"' in wrong.text
    assert "The duration must be a number" in wrong.text
    wrong = await manager.act(f"{one}/silence", **{"for": "60", "reason": "moving", "place": "nowhere"})
    assert "there is no satellite nowhere" in wrong.text
    done = await manager.act(f"{one}/silence", **{"for": "3600", "reason": HOSTILE[0], "place": "core"})
    assert done.status_code == 303
    page = (await manager.get(one)).text
    assert "&lt;script&gt;alert(1)" in page
    (end,) = re.findall(rf'action="({one}/silences/[^"]*/end)"', page)
    assert (await reader.act(end)).status_code == 403
    assert (await manager.act(end)).status_code == 303
    assert (await manager.act(end)).status_code == 409
    assert (await manager.act(f"{one}/silences/x/end")).status_code == 404

    ran = await runner.act(f"{one}/run")
    assert ran.status_code == 303

    async def looked() -> bool:
        return "looked" in (await runner.get(one)).text

    await eventually(looked)
    assert (await runner.act(f"{one}/run", on="nowhere")).status_code == 303
    assert "does not run on nowhere" in (await runner.get(one)).text

    assert (await manager.act(f"{one}/disable")).status_code == 303
    assert (await fleet.shown(check))["enabled"] is False
    assert "Enable" in (await manager.get(one)).text
    assert (await manager.act(f"{one}/enable")).status_code == 303
    assert (await fleet.shown(check))["enabled"] is True
    assert "all its results" in (await manager.get(one)).text
    assert (await manager.act(f"{one}/delete")).headers["location"] == "/checks"
    assert (await manager.get(one)).status_code == 404
    assert (await manager.act(f"{one}/delete")).status_code == 404


async def test_what_a_check_and_its_runs_are_called_is_text(fleet: Fleet, browse: Browse) -> None:
    words = "".join(one[:60] for one in HOSTILE)
    check = await fleet.create(name=HOSTILE[3], system=HOSTILE[1])
    detail = {
        "stdout": words,
        "stderr": words,
        "notes": [words],
        "assertions": [{"assertion": words, "actual": words}, "x"],
        "sandbox": {"enforced": {words: True}, "downgrades": words, "notes": [{"reason": words}]},
    }
    await fleet.report(
        check,
        "degraded",
        words,
        metrics={HOSTILE[0]: 1, HOSTILE[6]: {"value": 2, "unit": words}},
        detail=detail,
    )
    browser = await browse(fleet.host)
    for path in ("", "/edit", "/places", "/silence"):
        page = (await browser.get(f"/checks/{check}{path}")).text
        for markup in ("<script>alert", "<img", "</bdi><h1>", "\u202e", "23333331"):
            assert markup not in page, (path, markup)


async def test_the_page_of_a_satellite_shows_its_checks_as_they_are_there(fleet: Fleet) -> None:
    edge = await fleet.register("edge-1")
    check = await fleet.create(runsOn={"core": True, "satellites": [edge]})
    await fleet.create(name="elsewhere")
    await fleet.report(check, "degraded", "slow", place=edge)
    await fleet.report(check, "healthy", "quick")
    (plugin,) = (one.plugin for one in fleet.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    (panel,) = (one for one in plugin.pages().panels if one.on == "/satellites/{id}")
    assert panel.rule is not None
    reader = Principal("test", frozenset(READ))

    async def rights() -> Principal:
        return reader

    told: dict[str, Any] = {
        "query": {},
        "peer": "",
        "session": "",
        "token": "",
        "now": dt.datetime.now(dt.UTC),
    }
    view = View(principal=reader, rights=rights, parameters={"id": edge}, **told)
    shown = await panel.show(view)
    assert shown is not None
    assert [(name, one.shown, one.message) for _, name, one in shown["checks"]] == [
        ("disk", "degraded", "slow")
    ]
    assert await panel.show(replace(view, parameters={"id": "x"})) is None


def test_thresholds_are_in_the_unit_of_the_metric() -> None:
    said = [
        "metric.free > 10GiB",
        "free >= 5GB else degraded",
        "metric.free == 3",
        "other < 2",
        "free < {vars.most}",
    ]
    found = limits_of(said, "free", "MiB", {"warning": "@10:20", "critical": "~:5"})
    assert [(one["value"], one["kind"]) for one in found] == [
        (10 * 1024.0, "bad"),
        (5e9 / 2**20, "warn"),
        (10.0, "warn"),
        (20.0, "warn"),
        (5.0, "bad"),
    ]


def test_a_state_lasts_until_the_next_run_and_not_for_ever() -> None:
    begin, step = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(minutes=5)
    unhealthy, healthy = 0, 3
    seen = [None, healthy, unhealthy, None, healthy, healthy, None, None, None, None]
    now = begin + 10 * step - dt.timedelta(minutes=1)
    found = stretches(begin, step, seen, lasting=Lasting(600.0, 900.0), now=now)
    assert [(one.state, round((one.end - one.begin) / step, 1)) for one in found] == [
        (None, 1.0),
        ("healthy", 1.0),
        ("unhealthy", 2.0),
        ("healthy", 5.0),
        (None, 0.8),
    ]
    assert found[-1].end == now


def test_a_report_says_of_each_layer_why_and_what_there_is_to_know() -> None:
    sandbox = {
        "downgrades": [{"layer": "network", "reason": "no device"}],
        "notes": [{"layer": "filesystem", "note": "no packages are installed"}],
    }
    assert report_of({"sandbox": sandbox}).why == [
        "network: no device",
        "filesystem: no packages are installed",
    ]
