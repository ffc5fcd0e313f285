"""Jobs are listed, watched, cancelled and tried again in a browser, by who may."""

from __future__ import annotations

import re

import pytest
from ringfence.host import Host
from ringfence.jobs import records
from ringfence.testing import RunHost, eventually

from tests.pages.conftest import Browse, Browser
from tests.pages.own.probe import TOIL, Probe, Work

READ = ["host.job.read"]


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def host(run_host: RunHost, probe: Probe) -> Host:
    return await run_host(plugins=[probe])


async def until_shown(browser: Browser, path: str, *words: str) -> str:
    async def shown() -> str:
        page = (await browser.get(path)).text
        return page if all(one in page for one in words) else ""

    return await eventually(shown)


async def test_a_job_is_watched_cancelled_and_tried_again(host: Host, probe: Probe, browse: Browse) -> None:
    admin, reader = await browse(host), await browse(host, rules=READ)
    waits = await probe.context.enqueue(TOIL, Work(how="wait"))
    page = await until_shown(admin, f"/jobs/{waits}", "stones &lt;moved&gt;", 'max="10"', "running")
    assert "data-renew" in page
    assert "&#34;how&#34;: &#34;wait&#34;" in page
    seen = (await reader.get(f"/jobs/{waits}")).text
    assert "&#34;how&#34;" not in seen
    assert "You may not see this payload" in seen
    assert "Cancel" not in seen
    assert (await reader.act(f"/jobs/{waits}/cancel")).status_code == 403
    assert (await admin.post(f"/jobs/{waits}/cancel", {"csrf": "x"})).status_code == 403
    assert (await admin.act(f"/jobs/{waits}/cancel")).headers["location"] == f"/jobs/{waits}"
    page = await until_shown(admin, f"/jobs/{waits}", "cancelled")
    assert "data-renew" not in page
    assert (await admin.act(f"/jobs/{waits}/cancel")).status_code == 409
    assert (await reader.act(f"/jobs/{waits}/retry")).status_code == 403
    probe.release.set()
    assert (await admin.act(f"/jobs/{waits}/retry")).status_code == 303
    await until_shown(admin, f"/jobs/{waits}", "succeeded")
    assert (await admin.act(f"/jobs/{waits}/retry")).status_code == 409
    for nothing in ("x", "00000000-0000-0000-0000-000000000000"):
        assert (await admin.get(f"/jobs/{nothing}")).status_code == 404
        assert (await admin.act(f"/jobs/{nothing}/retry")).status_code == 404


async def test_jobs_are_found_by_plugin_kind_and_state_and_looked_for_in_pieces(
    host: Host, probe: Probe, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, nobody = await browse(host), await browse(host, rules=["probe.note.read"])
    failed = await probe.context.enqueue(TOIL, Work(how="fail"))
    await until_shown(admin, f"/jobs/{failed}", "no &lt;stones&gt; left")
    probe.fails = False
    done = [await probe.context.enqueue(TOIL, Work(how="do")) for _ in range(4)]
    for one in done:
        await until_shown(admin, f"/jobs/{one}", "succeeded")

    async def found(query: str) -> set[str]:
        page = (await admin.get(f"/jobs?{query}")).text
        return set(re.findall(r'scope="row"[^>]*><a href="/jobs/([0-9a-f-]+)"', page))

    assert await found("status=failed") == {str(failed)}
    assert await found("plugin=probe") == await found("kind=probe.toil") == {str(failed), *map(str, done)}
    assert await found("kind=probe.toil&status=succeeded") == set(map(str, done))
    assert str(failed) not in await found("plugin=host")
    assert (await admin.get("/jobs?status=lost")).status_code == 422
    assert (await nobody.get("/jobs")).status_code == 403
    assert "trim-events" in (await admin.get("/jobs/timetables")).text

    monkeypatch.setattr(records, "MOST_LOOKED_AT", 2)
    page = (await admin.get("/jobs?kind=host.trim-events")).text
    further = re.search(r'href="(/jobs\?[^"]+)" rel="next"', page)
    assert further is not None
    assert "kind=host.trim-events" in further[1]
    # Those that have failed have an index of their own: nothing else is looked at.
    assert await found("status=failed") == {str(failed)}
