"""`/metrics`: what Prometheus reads of a host, who may read it, and that no plugin takes it from the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics
from ringfence.counting import OTHER, Counts, Distribution
from ringfence.host import serve
from ringfence.metrics import Metric, counter, gauge, histogram
from ringfence.metrics.open_port import address_of, serving
from ringfence.metrics.scraping import Scraping
from ringfence.plugins.discovery import discover
from ringfence.settings import HostSettings, SettingsError, build
from ringfence.testing import RunHost, client
from ringfence.web.server import ListenError, listen

OPEN = {"Accept": "application/openmetrics-text; version=1.0.0"}


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Each sample by its name and labels."""
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in plain_metrics(text)
        for one in family.samples
    }


async def test_a_host_with_all_plugins_tells_its_metrics_to_who_may_read_them(run_host: RunHost) -> None:
    host = await run_host(plugins=discover())
    async with client(host, rules=["host.metrics.read"]) as reader, client(host, rules=()) as stranger:
        refused = await stranger.get("/metrics")
        assert (refused.status_code, refused.json()["rule"]) == (403, "host.metrics.read")
        assert (await reader.get("/metrics", headers={"Authorization": ""})).status_code == 401
        answer = await reader.get("/metrics")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        told = values(answer.text)
        failed = {
            labels: number
            for (name, labels), number in told.items()
            if name == "ringfence_metrics_failed_total"
        }
        assert set(failed.values()) == {0.0}, failed
        assert {dict(labels)["plugin"] for labels in failed} >= {
            "host",
            "satellite",
            "health-checks",
            "automations",
        }
        assert told["ringfence_policy_stored_revision", ()] == 0
        assert told["ringfence_plugin_up", (("plugin", "satellite"),)] == 1
        assert told["ringfence_satellites", (("state", "online"),)] == 0
        assert told["ringfence_jobs", (("kind", "satellite.forget-runs"), ("state", "failed"))] == 0
        assert (
            told[
                "ringfence_http_requests_total", (("method", "GET"), ("route", "/metrics"), ("status", "4xx"))
            ]
            >= 1
        )
        host.scraping.fresh_seconds = 0
        await reader.get("/api/satellite/satellites/9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d")
        await reader.get("/no/such/thing-that-somebody-made-up")
        asked = await reader.get("/metrics", headers=OPEN)
        assert asked.headers["content-type"].startswith("application/openmetrics-text")
        families = {family.name: family for family in open_metrics(asked.text)}  # type: ignore[no-untyped-call]
        routes = {one.labels["route"] for one in families["ringfence_http_requests"].samples}
        assert "/api/satellite/satellites/{id}" in routes
        assert not any("made-up" in route for route in routes)


async def test_the_open_port_serves_metrics_and_nothing_else(run_host: RunHost) -> None:
    host = await run_host()
    with listen("127.0.0.1", 0) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serving(listener, host.scraping.text), httpx.AsyncClient(base_url=address) as anybody:
            plain, opened = await anybody.get("/metrics"), await anybody.get("/metrics", headers=OPEN)
            assert values(plain.text)["ringfence_draining", ()] == 0
            assert opened.headers["content-type"].startswith("application/openmetrics-text")
            list(open_metrics(opened.text))  # type: ignore[no-untyped-call]
            assert (await anybody.get("/api/host/plugins")).status_code == 404
            assert (await anybody.post("/metrics")).status_code == 405
            assert (await anybody.head("/metrics")).content == b""
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
            writer.write(b"GET /metrics HTTP/1.1\r\nX-Much: " + b"a" * 100_000)
            assert await reader.read() == b""
            writer.close()


async def test_the_open_port_is_a_setting_and_said_to_be_taken(
    tmp_path: Any, unused_port: Callable[[], int]
) -> None:
    port = unused_port()
    settings = HostSettings(data_dir=tmp_path, port=0, metrics_address=f"127.0.0.1:{port}")
    with (
        listen("127.0.0.1", port),
        pytest.raises(ListenError, match="choose another with RINGFENCE_METRICS_ADDRESS"),
    ):
        async with serve(settings, plugins=[]):
            raise AssertionError("it must not start")


@pytest.fixture
def unused_port() -> Callable[[], int]:
    def find() -> int:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return int(one.getsockname()[1])

    return find


@pytest.mark.parametrize("text", ["9464", "localhost:", ":9464", "::1:9464", "127.0.0.1:99999", "a:b"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="RINGFENCE_METRICS_ADDRESS"):
        build(HostSettings, metrics_address=text)


def test_addresses_are_read_with_their_port() -> None:
    assert [address_of(one) for one in ("127.0.0.1:9464", "[::1]:80", "localhost:0")] == [
        ("127.0.0.1", 9464),
        ("::1", 80),
        ("localhost", 0),
    ]


async def told(*families: Metric) -> Sequence[Metric]:
    return families


async def fails() -> Sequence[Metric]:
    raise RuntimeError("no")


async def hangs() -> Sequence[Metric]:
    await asyncio.Event().wait()
    return []


async def clings() -> Sequence[Metric]:
    """Ignores that it is cancelled."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(2.0, over.set)
    while not over.is_set():
        try:
            await over.wait()
        except asyncio.CancelledError:
            continue
    return []


GOOD = gauge("ringfence_good", "Good", 1)


@pytest.mark.parametrize(
    "bad",
    [
        fails,
        hangs,
        clings,
        lambda: told(gauge("other_name", "Not ours", 1)),
        lambda: told(gauge("ringfence_Good_Name", "Not in lower case", 1)),
        lambda: told(gauge("ringfence_good", "Taken", 2)),
        lambda: told(gauge("ringfence_runs", "Alike", 2), counter("ringfence_runs_total", "Alike", 2)),
        lambda: told(gauge("ringfence_many", "Many", {(str(n),): 1.0 for n in range(2001)}, labels=["n"])),
        lambda: told("nothing"),  # type: ignore[arg-type]
    ],
)
async def test_one_that_fails_or_is_slow_is_left_out_and_counted(
    bad: Callable[[], Awaitable[Sequence[Metric]]],
) -> None:
    scraping = Scraping(lambda: {"good": lambda: told(GOOD), "bad": bad}, seconds=0.05, fresh_seconds=0)
    for scrape in (1, 2):
        text, _ = await scraping.text()
        samples = values(text.decode())
        assert samples["ringfence_good", ()] == 1
        assert samples["ringfence_metrics_failed_total", (("plugin", "bad"),)] == scrape
        assert samples["ringfence_metrics_failed_total", (("plugin", "good"),)] == 0


async def test_one_that_has_not_ended_is_not_asked_again_meanwhile() -> None:
    asked = 0

    async def counted() -> Sequence[Metric]:
        nonlocal asked
        asked += 1
        return await clings()

    scraping = Scraping(lambda: {"bad": counted}, seconds=0.02, fresh_seconds=0)
    for _ in range(3):
        await scraping.text()
    assert asked == 1


async def test_scrapes_at_once_share_their_answer() -> None:
    asked = 0

    async def counted() -> Sequence[Metric]:
        nonlocal asked
        asked += 1
        return [GOOD]

    scraping = Scraping(lambda: {"good": counted}, fresh_seconds=60)
    await asyncio.gather(*(scraping.text() for _ in range(20)))
    assert asked == 1


def test_labels_are_bounded_and_distributions_add_up() -> None:
    counts = Counts(most=2)
    for name in ("a", "b", "c", "d"):
        counts.add(name)
    assert dict(counts.items()) == {("a",): 1, ("b",): 1, (OTHER,): 2}
    times = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 3.0):
        times.observe(value)
    assert list(times.cumulative()) == [(1.0, 2), (2.0, 3), (float("inf"), 4)]
    assert times.sum == 6.0
    samples = histogram("ringfence_some_seconds", "Some", times).samples
    assert [(one.name, one.labels.get("le"), one.value) for one in samples] == [
        ("ringfence_some_seconds_bucket", "1.0", 2),
        ("ringfence_some_seconds_bucket", "2.0", 3),
        ("ringfence_some_seconds_bucket", "+Inf", 4),
        ("ringfence_some_seconds_count", None, 4),
        ("ringfence_some_seconds_sum", None, 6.0),
    ]
    with pytest.raises(ValueError, match="_total"):
        counter("ringfence_some", "Some", 1)
