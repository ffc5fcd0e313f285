"""What a host can enforce is tried in a thread and remembered for a while; its settings are shown without secrets."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from ringfence.host import Host
from ringfence.pages.own import this_host
from ringfence.plugins.blocked_loop import HoldUp
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.probe import probe
from ringfence.testing import RunHost, eventually

from tests.pages.conftest import Browse, Browser
from tests.pages.own.probe import Probe

READ = ["host.instance.read"]


class Looks:
    """Stands for the trials of this machine: how often they were made, and when they are over."""

    def __init__(self) -> None:
        self.times = 0
        self.over = threading.Event()
        self.fails = False
        self.thread: int | None = None

    def __call__(self) -> Capabilities:
        self.times += 1
        self.thread = threading.get_ident()
        self.over.wait(30)
        if self.fails:
            raise RuntimeError("there is no <machine>")
        return probe(links=False)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks = Looks()
    monkeypatch.setattr(this_host, "probe_anew", looks)
    return looks


@pytest.fixture
async def host(run_host: RunHost, looks: Looks, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("RINGFENCE_TOKEN", "rft_very-secret-token")
    monkeypatch.setenv("RINGFENCE_ALLOWED_HOSTS", "")
    return await run_host(plugins=[Probe()], allowed_hosts="pages.example")


async def shown(browser: Browser, words: str) -> str:
    async def page() -> str:
        text = (await browser.get("/this-host")).text
        return text if words in text else ""

    return await eventually(page)


async def test_the_machine_is_tried_beside_the_event_loop_and_not_at_each_look(
    host: Host, looks: Looks, browse: Browse
) -> None:
    reader, nobody = await browse(host, rules=READ), await browse(host, rules=["probe.note.read"])
    page = (await reader.get("/this-host")).text
    assert "is being tested" in page
    assert 'data-renew="1"' in page
    assert str(host.instance_id) in page
    looks.over.set()
    page = await shown(reader, "are started by uid")
    assert "userNamespaces" in page
    assert 'data-renew="10"' in page
    assert looks.thread != threading.get_ident()
    await reader.get("/this-host")
    assert looks.times == 1
    assert (await nobody.get("/this-host")).status_code == 403
    assert (await nobody.act("/this-host/again")).status_code == 403
    assert (await reader.post("/this-host/again", {"csrf": "x"})).status_code == 403
    looks.fails = True
    assert (await reader.act("/this-host/again")).status_code == 303
    assert looks.times == 2
    await shown(reader, "there is no &lt;machine&gt;")


async def test_who_held_up_the_loop_stands_beside_how_the_instance_is(
    host: Host, looks: Looks, browse: Browse
) -> None:
    looks.over.set()
    host.runtime.hold_ups.append(HoldUp(dt.datetime.now(dt.UTC), 3.5, {"plugin": "<p>", "at": "a/b.py:7"}))
    host.runtime.hold_ups.append(HoldUp(dt.datetime.now(dt.UTC), 1.5, {"task": "t", "at": "-"}))
    page = (await (await browse(host, rules=READ)).get("/this-host")).text
    for words in ("ready", "&lt;p&gt;", "a/b.py:7", "3.5"):
        assert words in page
    assert "Stop this instance" not in page


async def test_an_instance_is_stopped_by_who_may(host: Host, looks: Looks, browse: Browse) -> None:
    looks.over.set()
    reader, admin = await browse(host, rules=READ), await browse(host)
    assert (await reader.act("/this-host/stop")).status_code == 403
    assert not host.runtime.drain.began
    assert "Stop this instance" in (await admin.get("/this-host")).text
    assert (await admin.act("/this-host/stop")).status_code == 303
    assert host.runtime.drain.began


async def test_settings_are_shown_as_this_instance_has_them_and_secrets_hidden(
    host: Host, browse: Browse
) -> None:
    reader, nobody = await browse(host, rules=READ), await browse(host, rules=["probe.note.read"])
    page = (await reader.get("/this-host/settings")).text
    for words in (
        "RINGFENCE_DATABASE_URL",
        "pages.example",
        "command line",
        "(hidden)",
        "RINGFENCE_SESSION_HOURS",
    ):
        assert words in page, words
    assert "very-secret" not in page
    assert "RINGFENCE_SESSION_HOURS" not in (await reader.get("/this-host/settings?q=allowed")).text
    assert "No setting matches." in (await reader.get("/this-host/settings?q=<x")).text
    assert (await nobody.get("/this-host/settings")).status_code == 403
