"""Plugins are shown with what they declared, how their worker groups stand, and why one is left out."""

from __future__ import annotations

from ringfence.host import Host
from ringfence.testing import RunHost, eventually

from tests.host.plugins import MadePlugin, Refusal
from tests.pages.conftest import Browse
from tests.pages.own.probe import Probe


async def test_a_plugin_is_shown_with_all_that_it_declared(run_host: RunHost, browse: Browse) -> None:
    async def refuse(_: object) -> None:
        raise Refusal("for <reasons>")

    broken = MadePlugin("broken", optional=True, ready=refuse)
    host: Host = await run_host(plugins=[Probe(), broken], may_fail=True)
    admin, nobody = await browse(host), await browse(host, rules=["probe.note.read"])
    page = (await admin.get("/plugins")).text
    assert 'href="/plugins/probe"' in page
    assert "for &lt;reasons&gt;" in page

    async def served() -> str:
        shown = (await admin.get("/plugins/probe")).text
        return shown if str(host.instance_id) in shown else ""

    page = await eventually(served)
    for words in (
        "toilers",
        "works",
        "note-shown",
        "probe.note.write",
        "Read &lt;notes&gt;",
        "can be limited",
        "toil",
    ):
        assert words in page, words
    page = (await admin.get("/plugins/broken")).text
    assert "Why it failed" in page
    assert "for &lt;reasons&gt;" in page
    assert (await admin.get("/plugins/nobody")).status_code == 404
    for path in ("/plugins", "/plugins/probe"):
        assert (await nobody.get(path)).status_code == 403
