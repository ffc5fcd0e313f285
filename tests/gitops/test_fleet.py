"""One instance of the fleet at a time follows a source, whichever; kinds of other plugins need nothing for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel
from ringfence import PluginContext, PluginInfo, Registry, hookimpl
from ringfence.declaring import ObjectKind, Stored, Work
from ringfence.testing import RunHost, client, eventually, installed
from sqlalchemy import text

from tests.gitops.repositories import BACKEND, HAS_GIT, Repository, served_over_http
from tests.gitops.test_syncing import SOURCES, change_in_database, put, settled, synced, told

pytestmark = pytest.mark.skipif(not HAS_GIT or BACKEND is None, reason="git is not installed")
NOTE = "apiVersion: ringfence/v1\nkind: Note\nmetadata: {{name: {name}}}\nspec: {{text: {text}}}\n"


class NoteSpec(BaseModel):
    text: str


class NoteKind(ObjectKind[NoteSpec]):
    """Notes in a table."""

    kind: ClassVar[str] = "Note"
    what: ClassVar[str] = "A note"
    spec = NoteSpec
    order: ClassVar[int] = 5

    async def names(self, work: Work) -> Sequence[str]:
        return list((await work.session.execute(text("SELECT name FROM notes ORDER BY name"))).scalars())

    async def read(self, work: Work, name: str) -> Stored | None:
        query = text("SELECT text FROM notes WHERE name = :name")
        found = (await work.session.execute(query, {"name": name})).scalar_one_or_none()
        return None if found is None else Stored({"text": found})

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        query = text(
            "INSERT INTO notes VALUES (:name, :text) ON CONFLICT (name) DO UPDATE SET text = excluded.text"
        )
        await work.session.execute(query, {"name": name, "text": spec.text})
        return []

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        await work.session.execute(text("DELETE FROM notes WHERE name = :name"), {"name": name})


class Notes:
    """A plugin with objects of its own."""

    info = PluginInfo("notes", "1.0")

    @hookimpl
    def register(self, registry: Registry) -> None:
        self.rule = registry.access_rule("note", "write", "Write notes")

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        async with context.sessions.begin() as session:
            await session.execute(text("CREATE TABLE IF NOT EXISTS notes (name text PRIMARY KEY, text text)"))
        context.services.extend(ObjectKind, NoteKind(context, read_rule=self.rule, write_rule=self.rule))


@pytest.mark.slow
async def test_a_sync_outlives_its_instance_and_two_instances_do_each_once(
    run_host: RunHost, repository: Repository
) -> None:
    first = repository.commit({"a.yaml": NOTE.format(name="a", text="one")}, "First")
    one = await run_host(plugins=[*installed("gitops"), Notes()])
    with served_over_http(repository.bare.parent) as server:
        server.hangs = True
        async with client(one, name="ann", rules=list(one.access.rules)) as ann:
            await put(ann, "notes", f"{server.url}/shop.git")

            async def asked() -> int:
                return server.requests

            assert await eventually(asked)
            secret = ann.headers["Authorization"].partition(" ")[2]
        two = await run_host(plugins=[*installed("gitops"), Notes()])
        server.hangs = False
        await one.__aexit__()
        server.released.set()
        async with client(two, token=secret) as ann:
            await settled(ann, "notes", commit=first)
            three = await run_host(plugins=[*installed("gitops"), Notes()])
            async with client(three, token=secret) as other:
                for number in range(5):
                    await change_in_database(two, f"UPDATE notes SET text = 'drift {number}'")
                    await synced(ann if number % 2 else other, "notes")
                facts = await told(two, "gitops-synced")
                assert [fact["drifted"] for fact in facts] == [0, 1, 1, 1, 1, 1]
                async with two.database.sessions() as session:
                    assert (await session.execute(text("SELECT text FROM notes"))).scalar_one() == "one"
                await put(other, "notes", f"{server.url}/shop.git", enabled=False)
                assert (await ann.post(f"{SOURCES}/notes/sync")).status_code == 409


async def test_what_was_applied_by_hand_is_taken_over_once_somebody_says_so(
    run_host: RunHost, repository: Repository
) -> None:
    commit = repository.commit({"a.yaml": NOTE.format(name="a", text="git")}, "First")
    host = await run_host(plugins=[*installed("gitops"), Notes()])
    async with client(host, name="ann", rules=list(host.access.rules)) as ann:
        by_hand = {"files": [{"path": "a.yaml", "text": NOTE.format(name="a", text="hand")}]}
        assert (await ann.post("/api/host/apply", json=by_hand)).status_code == 200
        await put(ann, "notes", repository.url)
        await settled(ann, "notes", error="Note a belongs to cli")
        await synced(ann, "notes", takeOver=True)
        await settled(ann, "notes", commit=commit)
        assert (await ann.post("/api/host/apply", json={**by_hand, "takeOver": True})).status_code == 409
        await synced(ann, "notes")
        assert [fact["changed"] for fact in await told(host, "gitops-synced")] == [1]

        # What a newer release has written is left out, and stops nothing else.
        newer = """UPDATE gitops_sources SET spec = spec || '{"newer": true}'"""
        await change_in_database(host, newer)
        assert (await ann.get(SOURCES)).json()["sources"] == []
        unreadable = await ann.get(f"{SOURCES}/notes")
        assert (unreadable.status_code, "use the release that wrote it" in unreadable.text) == (409, True)
        refused = await ann.post("/api/host/apply", json=by_hand)
        assert "comes from the git source notes" in refused.text
