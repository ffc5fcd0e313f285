"""Managing satellites, placing them and running scripts on them are different rights, each for what it names alone."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest
from ringfence.testing import client

from tests.satellite.instances import SATELLITES, Instance
from tests.shared_hosts import SHARED

pytestmark = SHARED

READ, MANAGE, PLACE, RUN = (
    "satellite.satellite.read",
    "satellite.satellite.manage",
    "satellite.satellite.place",
    "satellite.script.run",
)
SCRIPT = {"kind": "shell", "script": "true", "timeoutMs": 1000}


@asynccontextmanager
async def holding(instance: Instance, *rules: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client(instance.host, rules=rules) as http:
        yield http


async def test_who_manages_satellites_gives_none_a_place(instance: Instance) -> None:
    placed = await instance.register("placed", tags=["payments"])
    async with holding(instance, MANAGE) as http:
        bare = await http.post(SATELLITES, json={"name": "bare", "region": "eu"})
        assert bare.status_code == 201
        id = bare.json()["satellite"]["id"]
        for refused in (
            await http.post(SATELLITES, json={"name": "x", "region": "eu", "tags": ["payments"]}),
            await http.patch(f"{SATELLITES}/{id}", json={"tags": ["payments"]}),
            await http.patch(f"{SATELLITES}/{placed.id}", json={"tags": []}),
            await http.post(f"{SATELLITES}/{placed.id}/rotate-token"),
            await http.post(f"{SATELLITES}/{id}/runs", json=SCRIPT),
            await http.get(f"{SATELLITES}/{id}"),
        ):
            assert refused.status_code == 403, refused.text
        assert (await http.patch(f"{SATELLITES}/{id}", json={"name": "renamed"})).status_code == 200
        assert (await http.patch(f"{SATELLITES}/{placed.id}", json={"tags": ["payments"]})).status_code == 200
        assert (await http.delete(f"{SATELLITES}/{id}")).status_code == 204


async def test_who_places_satellites_may_not_run_scripts_on_them(instance: Instance) -> None:
    satellite = await instance.register("one")
    async with holding(instance, MANAGE, PLACE) as http:
        assert (
            await http.patch(f"{SATELLITES}/{satellite.id}", json={"tags": ["payments"]})
        ).status_code == 200
        assert (await http.post(f"{SATELLITES}/{satellite.id}/rotate-token")).status_code == 200
        assert (await http.post(f"{SATELLITES}/{satellite.id}/runs", json=SCRIPT)).status_code == 403


async def test_a_narrowed_right_reaches_what_carries_the_labels_and_nothing_else(instance: Instance) -> None:
    dev = await instance.register("dev", tags=["env=dev", "web"])
    prod = await instance.register("prod", tags=["env=prod", "web"])
    narrowed = [f"{rule} on env=dev" for rule in (READ, MANAGE, PLACE, RUN)]
    async with holding(instance, *narrowed) as http:
        listed = await http.get(SATELLITES)
        assert [one["name"] for one in listed.json()["satellites"]] == ["dev"]
        assert (await http.get(f"{SATELLITES}/{dev.id}")).status_code == 200
        assert (await http.post(f"{SATELLITES}/{dev.id}/runs", json=SCRIPT)).status_code == 201
        for refused in (
            await http.get(f"{SATELLITES}/{prod.id}"),
            await http.post(f"{SATELLITES}/{prod.id}/runs", json=SCRIPT),
            await http.delete(f"{SATELLITES}/{prod.id}"),
            await http.patch(f"{SATELLITES}/{dev.id}", json={"tags": ["env=prod"]}),
            await http.post(SATELLITES, json={"name": "x", "region": "eu"}),
            await http.get("/api/satellite/rollout"),
        ):
            assert refused.status_code == 403, refused.text
        made = await http.post(SATELLITES, json={"name": "y", "region": "eu", "tags": ["env=dev", "db"]})
        assert made.status_code == 201


async def test_tokens_that_were_made_before_keep_what_they_could_do(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"old": MANAGE, "other": "satellite.other.thing"}
    said: list[str] = []
    migration = importlib.import_module("ringfence_migrations.satellite.0004_separate_rules")
    monkeypatch.setattr(migration.op, "execute", said.append, raising=False)
    migration.upgrade()
    url = instance.host.database.libpq_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for name, rule in made.items():
            await connection.execute(
                "INSERT INTO api_tokens (id, name, digest, rules) VALUES (gen_random_uuid(), %s, sha256(%s), %s)",
                (name, name.encode(), [rule]),
            )
        for statement in said:
            await connection.execute(statement.encode())
        rows = await (
            await connection.execute("SELECT name, rules FROM api_tokens WHERE name = ANY(%s)", ([*made],))
        ).fetchall()
    assert {name: set(rules) for name, rules in rows} == {
        "old": {READ, MANAGE, PLACE, RUN},
        "other": {made["other"]},
    }
