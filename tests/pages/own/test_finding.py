"""The palette finds what the host itself has, for who may see it."""

from __future__ import annotations

from ringfence.testing import RunHost

from tests.pages.conftest import Browse, Browser
from tests.pages.own.probe import TOIL, Note, Probe, Work, shown


async def found(browser: Browser, words: str) -> set[tuple[str, str]]:
    answer = await browser.http.get("/find", params={"q": words})
    assert answer.status_code == 200
    return {(one["kind"], one["to"]) for one in answer.json()["found"]}


async def test_events_jobs_plugins_tokens_and_settings_are_found(run_host: RunHost, browse: Browse) -> None:
    probe = Probe()
    host = await run_host(plugins=[probe])
    admin, nobody = await browse(host), await browse(host, rules=["probe.note.read"])
    event = await probe.context.emit_hook(shown, Note(words="a"), standalone=True)
    job = await probe.context.enqueue(TOIL, Work(how="wait"))
    for words, kind, place in (
        (str(event.position), "event", f"/events/{event.position}"),
        ("notes", "stream", "/events?stream=notes"),
        ("SHOWN", "events", "/events?hook=note-shown"),
        ("toil", "jobs", "/jobs?kind=probe.toil"),
        (str(job), "job", f"/jobs/{job}"),
        ("prob", "plugin", "/plugins/probe"),
        ("retention", "setting", "/this-host/settings?q=RINGFENCE_EVENT_RETENTION_DAYS"),
    ):
        assert (kind, place) in await found(admin, words), words
        assert await found(nobody, words) == set(), words
    assert {kind for kind, _ in await found(admin, "admin-")} == {"token"}
    assert await found(nobody, "admin-") == set()
    for words in ("9" * 30, "0" * 90, "%", "'", "\ud7ff"):
        assert await found(admin, words) == set(), words
    probe.release.set()
