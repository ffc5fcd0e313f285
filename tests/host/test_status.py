"""`GET /api/host/status` tells as much as whoever asks may see, and whether all is well."""

from __future__ import annotations

from typing import Any

from ringfence.plugins.discovery import discover
from ringfence.testing import RunHost, client, eventually
from sqlalchemy import text


async def test_a_failed_job_is_told_to_who_may_see_jobs(run_host: RunHost) -> None:
    host = await run_host(plugins=discover())
    async with client(host) as admin, client(host, rules=["host.instance.read"]) as watcher:

        async def all_told() -> dict[str, Any] | None:
            answer: dict[str, Any] = (await admin.get("/api/host/status")).json()
            return (
                None if answer["silent"] else answer
            )  # on a busy machine a plugin's share may come too late

        before = await eventually(all_told)
        assert before is not None
        assert (before["ready"], before["leftOut"]) == (True, [])
        assert {one["what"] for one in before["counts"]} >= {
            "policy revision",
            "satellites online",
            "plugins",
        }
        assert before["ok"] == all(one["kind"] == "warn" for one in before["attention"])
        async with host.database.sessions.begin() as session:
            await session.execute(
                text(
                    "INSERT INTO jobs (id, plugin, kind, payload, status, due_at, first_due_at, ended_at)"
                    " VALUES (gen_random_uuid(), 'mailer', 'mailer.send', '{}', 'failed', now(), now(), now())"
                )
            )
        after = (await admin.get("/api/host/status")).json()
        assert not after["ok"]
        assert "1 job has failed." in [one["text"] for one in after["attention"]]
        assert "1 job has failed." not in (await watcher.get("/api/host/status")).text
