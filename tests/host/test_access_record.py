"""Tokens that end, tokens that are narrowed, and the record of who came and who was refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from ringfence.access.audit import ACCESS_STREAM
from ringfence.access.throttle import BURST
from ringfence.host import Host
from ringfence.testing import RunHost, client, eventually, served
from sqlalchemy import text

from tests.host.test_access import TOKENS, guarded, make


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[guarded()], records_access=True)


@pytest.fixture
async def admin(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    async with client(host) as http:
        yield http


async def recorded(http: httpx.AsyncClient, hook: str) -> list[dict[str, Any]]:
    answer = await http.get("/api/host/events", params={"stream": ACCESS_STREAM, "limit": 500})
    assert answer.status_code == 200, answer.text
    return [event for event in reversed(answer.json()["events"]) if event["hook"] == f"access-{hook}"]


async def test_a_token_ends_when_it_was_to(host: Host, admin: httpx.AsyncClient) -> None:
    answer = await admin.post(
        TOKENS, json={"name": "short", "rules": ["guarded.thing.read"], "expiresInSeconds": 3600}
    )
    assert answer.status_code == 201
    async with client(host, token=answer.json()["token"]) as short:
        assert (await short.get("/api/guarded/thing")).status_code == 200
        async with host.runtime.database.sessions.begin() as session:
            await session.execute(text("UPDATE api_tokens SET expires_at = now() WHERE name = 'short'"))
        host.access.forget()
        assert (await short.get("/api/guarded/thing")).status_code == 401


async def test_a_token_that_ended_elsewhere_ends_here(run_host: RunHost) -> None:
    one, two = [await run_host(plugins=[guarded()], records_access=True) for _ in range(2)]
    async with client(one) as admin:
        made = await make(admin, "ci", "guarded.thing.read")
        async with client(two, token=made["token"]) as ci:
            assert (await ci.get("/api/guarded/thing")).status_code == 200
            assert (await admin.delete(f"{TOKENS}/ci")).status_code == 204

            async def refused() -> bool:
                return (await ci.get("/api/guarded/thing")).status_code == 401

            await eventually(refused)
        async with client(one, token=made["token"]) as here:
            assert (await here.get("/api/guarded/thing")).status_code == 401


async def test_a_token_can_hold_less_and_never_more(host: Host, admin: httpx.AsyncClient) -> None:
    made = await make(admin, "ci", "guarded.thing.read", "guarded.thing.write")
    narrowed = await admin.patch(f"{TOKENS}/ci", json={"rules": ["guarded.thing.write"]})
    assert narrowed.json()["rules"] == ["guarded.thing.write"]
    async with client(host, token=made["token"]) as ci:
        assert (await ci.get("/api/guarded/thing")).status_code == 403
    wider = await admin.patch(f"{TOKENS}/ci", json={"rules": ["guarded.thing.read"]})
    assert wider.status_code == 422
    assert "can only be narrowed" in wider.json()["detail"]
    [event] = await recorded(admin, "token-narrowed")
    assert event["payload"]["before"] == ["guarded.thing.read", "guarded.thing.write"]


async def test_a_rule_that_is_about_nothing_with_labels_cannot_be_narrowed(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(TOKENS, json={"name": "x", "rules": ["guarded.thing.read on env=dev"]})
    assert answer.status_code == 422
    assert "cannot be narrowed" in answer.json()["detail"]


async def test_the_last_who_may_make_tokens_cannot_be_taken_away(
    host: Host, admin: httpx.AsyncClient
) -> None:
    name = next(one["name"] for one in (await admin.get(TOKENS)).json()["tokens"])
    for refused in (
        await admin.delete(f"{TOKENS}/{name}"),
        await admin.patch(f"{TOKENS}/{name}", json={"rules": ["guarded.thing.read"]}),
    ):
        assert refused.status_code == 409
        assert "the last token" in refused.json()["detail"]
    # One that ends by itself is no second one.
    await admin.post(TOKENS, json={"name": "guest", "rules": ["host.token.manage"], "expiresInSeconds": 60})
    assert (await admin.delete(f"{TOKENS}/{name}")).status_code == 409
    await make(admin, "second", "host.token.manage")
    assert (await admin.delete(f"{TOKENS}/{name}")).status_code == 204


async def test_who_makes_and_ends_tokens_and_from_where_is_recorded_without_any_secret(
    host: Host, admin: httpx.AsyncClient
) -> None:
    made = await make(admin, "ci", "guarded.thing.read")
    await admin.delete(f"{TOKENS}/ci")
    [created] = [one for one in await recorded(admin, "token-created") if one["payload"]["name"] == "ci"]
    [revoked] = await recorded(admin, "token-revoked")
    for event in (created, revoked):
        assert event["actor"].startswith("admin-")
        assert event["payload"]["token"] == made["id"]
        assert event["payload"]["peer"]
        assert made["token"] not in str(event)
    async with host.runtime.database.sessions() as session:
        kept = await session.execute(
            text("SELECT bool_and(keep_forever) FROM events WHERE stream = :stream"),
            {"stream": ACCESS_STREAM},
        )
        assert kept.scalar_one() is True


async def test_signing_in_is_recorded_once_with_its_address(host: Host, admin: httpx.AsyncClient) -> None:
    made = await make(admin, "ci", "guarded.thing.read")
    async with served(host) as url, httpx.AsyncClient(base_url=url) as ci:
        for _ in range(3):
            await ci.get("/api/guarded/thing", headers={"Authorization": f"Bearer {made['token']}"})

    async def told() -> list[dict[str, Any]]:
        return [one for one in await recorded(admin, "signed-in") if one["payload"]["name"] == "ci"]

    [event] = await eventually(told)
    assert event["payload"]["peer"] == "127.0.0.1"


async def test_who_guesses_is_slowed_down_and_recorded_and_who_shares_the_address_works_on(
    host: Host, admin: httpx.AsyncClient
) -> None:
    made = await make(admin, "ci", "guarded.thing.read")
    async with served(host) as url, httpx.AsyncClient(base_url=url) as http:

        async def ask(token: str) -> httpx.Response:
            return await http.get("/api/guarded/thing", headers={"Authorization": f"Bearer {token}"})

        assert (await ask(made["token"])).status_code == 200
        answers = [await ask(f"rft_{number}") for number in range(BURST + 20)]
        assert {answer.status_code for answer in answers} == {401, 429}
        slowed = next(answer for answer in answers if answer.status_code == 429)
        assert int(slowed.headers["retry-after"]) >= 1
        assert (await ask(made["token"])).status_code == 200

    async def told() -> list[dict[str, Any]]:
        return await recorded(admin, "sign-in-refused")

    events = await eventually(told)
    assert events[0]["payload"]["peer"] == "127.0.0.1"
    assert "rft_" not in str(events)


async def test_the_record_is_shown_to_who_holds_the_rule_for_that_alone(
    host: Host, admin: httpx.AsyncClient
) -> None:
    await make(admin, "ci", "guarded.thing.read")
    async with client(host, rules=["host.event.read"]) as reader:
        events = await recorded(reader, "token-created")
    assert events
    assert all(event["payload"] is None for event in events)
