"""Webhooks: an address of its own starts an automation, with what was sent to it."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from ringfence.bounded import MAX_DEPTH
from ringfence.host import Host
from ringfence.testing import RunHost, client, eventually
from ringfence.web import Allowances
from ringfence_automations.runs.starting import MAX_DEPTH as MAX_RUNS_DEEP
from ringfence_automations.triggers.matching import first_match
from ringfence_automations.triggers.webhooks import receiving
from ringfence_automations.triggers.webhooks.requests import (
    MAX_BODY_BYTES,
    MAX_HEADER_CHARACTERS,
    MAX_HEADERS,
    NotReadableError,
    event_of,
)
from ringfence_automations.triggers.webhooks.signatures import is_signed, sign
from sqlalchemy import text

from tests.automations.runs.conductor import Gate
from tests.automations.triggers.conftest import secrets
from tests.automations.triggers.machine import Machine, rung


def event(body: bytes = b"", kind: str = "") -> dict[str, Any]:
    return event_of("POST", [("Content-Type", kind)] if kind else [], "", body)


def test_the_event_tells_what_was_sent_and_not_who_the_sender_is() -> None:
    headers = [
        ("Content-Type", "application/json"),
        ("X-Twice", "a"),
        ("X-Twice", "b"),
        ("Authorization", "Bearer secret"),
        ("COOKIE", "secret"),
        ("X-Signature", "secret"),
    ]
    told = event_of("POST", headers, "a=1&b=2&b=3&c", b'{"x": [1]}', also_hidden=["x-signature"])
    assert told == {
        "method": "POST",
        "headers": {"content-type": "application/json", "x-twice": "a, b"},
        "query": {"a": "1", "b": ["2", "3"], "c": ""},
        "body": {"x": [1]},
    }
    assert "secret" not in json.dumps(told)


@pytest.mark.parametrize(
    ("body", "kind", "read"),
    [
        (b"", "application/json", None),
        (b'{"a": 1}', "application/cloudevents+json; charset=utf-8", {"a": 1}),
        (b"a=1&a=2&b=%C3%A4", "application/x-www-form-urlencoded", {"a": ["1", "2"], "b": "ä"}),
        (b"plain", "", "plain"),
        (b"\xe4", "text/plain; charset=latin-1", "ä"),
        (b"\x80", "text/plain; charset=Windows-1252", "€"),
        ("ä".encode("utf-16"), "text/plain; charset=UTF-16", "ä"),
        (b"\xff\x00", "application/octet-stream", "��"),
        (b'"a\\u0000b"', "application/json", "a�b"),
    ],
)
def test_bodies_are_read_by_their_kind(body: bytes, kind: str, read: object) -> None:
    assert event(body, kind)["body"] == read


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"1e999", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2), "application/json"),
        (b"&".join([b"a=1"] * 1000), "application/x-www-form-urlencoded"),
        (b"a", "text/plain; charset=no-such"),
        # Python knows all of these. The first takes a quarter of a minute for such a body, and others raise.
        (b"z" * MAX_BODY_BYTES, "text/plain; charset=punycode"),
        (b"a", "text/plain; charset=idna"),
        (b"a", "text/plain; charset=undefined"),
        (b"a", "text/plain; charset=unicode_escape"),
        (b"a", "text/plain; charset=hex"),
        (b"a", 'text/plain; charset="a\0b"'),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(NotReadableError):
        event(body, kind)


def test_headers_are_bounded() -> None:
    told = event_of("POST", [(f"x-{n}", "v" * 5000) for n in range(500)], "", b"")
    assert len(told["headers"]) == MAX_HEADERS
    assert {len(value) for value in told["headers"].values()} == {MAX_HEADER_CHARACTERS}


def test_a_key_of_a_sender_is_that_key_alone() -> None:
    long = "k" * 300
    assert len({receiving._once_key(one) for one in ("a", "A", long, long + "1", "\udce4")}) == 5
    assert receiving._once_key("a") == receiving._once_key("a")
    # A sender that leaves it empty has given none: it would start nothing any more after the first time.
    assert {receiving._once_key(one) for one in (None, "", "  ")} == {None}


def test_a_signature_is_that_of_the_body_with_the_key() -> None:
    # The example of GitHub's documentation.
    right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    body, key = b"Hello, World!", "It's a Secret to Everybody"
    assert is_signed(body, right, key)
    assert is_signed(body, right.upper().replace("SHA256", "sha256"), key)
    for wrong in (None, "", right[:-1], right + "0", right.replace("7", "8"), "sha1=" + "0" * 40):
        assert not is_signed(body, wrong, key)
    assert not is_signed(body + b"!", right, key)
    assert not is_signed(body, sign(body, ""), "")


WEBHOOK: dict[str, Any] = {"webhook": True}


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[secrets(), Machine()])


@pytest.fixture
def machine(host: Host) -> Machine:
    found = host.plugins[-1].plugin
    assert isinstance(found, Machine)
    return found


async def address(http: httpx.AsyncClient, name: str) -> str:
    answer = await http.post(f"/api/automations/automations/{name}/webhook")
    assert answer.status_code == 201, answer.text
    path: str = answer.json()["path"]
    return path


def stranger(host: Host) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(host.app), base_url="http://test")


async def test_filters_are_evaluated_beside_the_event_loop(
    host: Host, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    match, threads = first_match, []

    def watched(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return match(*arguments)

    monkeypatch.setattr(receiving, "first_match", watched)
    await machine.apply("deploy", WEBHOOK)
    await machine.settled()
    async with client(host) as http, stranger(host) as sender:
        assert (await sender.post(await address(http, "deploy"))).status_code == 202
    assert len(threads) == 1
    assert threading.main_thread() not in threads


async def test_whoever_knows_the_address_starts_the_automation(
    host: Host, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await machine.apply("deploy", {**WEBHOOK, "filter": 'event.body.ref == "main"'}, mode="parallel")
    await machine.apply("without", {"hook": rung.name})
    await machine.settled()
    async with client(host) as http, stranger(host) as sender:
        assert (await http.get("/api/automations/automations/deploy/webhook")).status_code == 404
        assert (await http.post("/api/automations/automations/without/webhook")).status_code == 409
        assert (await http.post("/api/automations/automations/nothing/webhook")).status_code == 404
        path = await address(http, "deploy")
        answer = await sender.post(f"{path}?try=1", json={"ref": "main"}, headers={"Authorization": "x"})
        assert answer.status_code == 202, answer.text
        [run] = await machine.begun_by("deploy", 1)
        assert answer.json() == {"run": str(run.id)}
        assert (run.trigger["kind"], run.started_by) == ("webhook", "webhook")
        assert run.event["body"] == {"ref": "main"}
        assert run.event["query"] == {"try": "1"}
        assert "authorization" not in run.event["headers"]

        answer = await sender.post(path, json={"ref": "other"})
        assert (answer.status_code, answer.json()["run"]) == (202, None)
        answer = await sender.post(path, content=b"{", headers={"Content-Type": "application/json"})
        assert answer.status_code == 400

        # The same delivery again starts nothing.
        again = [
            await sender.post(path, json={"ref": "main"}, headers={"Idempotency-Key": "d1"}) for _ in range(2)
        ]
        assert again[0].json()["run"] == again[1].json()["run"]
        assert len(await machine.shown("deploy")) == 2

        shown = (await http.get("/api/automations/automations/deploy/webhook")).json()
        assert shown["lastUsedAt"] is not None
        secret = path.rpartition("/")[2]
        assert secret not in json.dumps(shown)
        async with machine.context.sessions() as session:
            rows = await session.execute(text("SELECT automations_webhooks::text FROM automations_webhooks"))
            assert secret not in rows.scalar_one()

        # Another address takes its place.
        other = await address(http, "deploy")
        assert (await sender.post(path, json={"ref": "main"})).status_code == 404
        assert (await sender.post(other, json={"ref": "main"})).status_code == 202
        await machine.apply("deploy", WEBHOOK, enabled=False)
        await machine.settled()
        assert (await sender.post(other, json={"ref": "main"})).status_code == 404


async def test_a_webhook_that_wants_a_signature_takes_no_request_without(
    host: Host, machine: Machine
) -> None:
    hmac = {"webhook": {"hmac": {"secret": "hook-key"}}}
    missing = {"webhook": {"hmac": {"secret": "no-such", "header": "X-Sign"}}}
    await machine.apply("signed", hmac, mode="parallel")
    await machine.apply("unknown", missing)
    await machine.settled()
    async with client(host) as http, stranger(host) as sender:
        path = await address(http, "signed")
        body = b'{"a": 1}'
        header = {"X-Hub-Signature-256": f"sha256={sign(body, 'a key')}"}
        assert (await sender.post(path, content=body)).status_code == 401
        assert (await sender.post(path, content=body + b" ", headers=header)).status_code == 401
        answer = await sender.post(path, content=body, headers=header)
        assert answer.status_code == 202
        [run] = await machine.begun_by("signed", 1)
        assert "x-hub-signature-256" not in run.event["headers"]
        answer = await sender.post(await address(http, "unknown"), content=body, headers=header)
        assert answer.status_code == 503
        assert "no-such" not in answer.text


async def test_what_is_sent_is_bounded_in_size_and_number(
    host: Host, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await machine.apply("deploy", WEBHOOK, mode="parallel")
    await machine.settled()
    async with client(host) as http, stranger(host) as sender:
        path = await address(http, "deploy")

        async def pieces() -> Any:
            for _ in range(MAX_BODY_BYTES // 1024 + 1):
                yield b"x" * 1024

        assert (await sender.post(path, content=b"x" * (MAX_BODY_BYTES + 1))).status_code == 413
        assert (await sender.post(path, content=pieces())).status_code == 413
        assert (await sender.post(path, content=b"x" * MAX_BODY_BYTES)).status_code == 202
        assert len(await machine.shown("deploy")) == 1

        machine.triggers.receiving._calls = Allowances(3.0, 0.001)
        machine.triggers.receiving._strangers = Allowances(3.0, 0.001)
        assert [(await sender.post(path)).status_code for _ in range(5)] == [202] * 3 + [429] * 2
        answers = [await sender.post("/api/automations/hooks/rfh_nowhere") for _ in range(5)]
        assert [one.status_code for one in answers] == [404] * 3 + [429] * 2
        assert int(answers[-1].headers["Retry-After"]) >= 1


async def test_only_who_manages_automations_makes_and_removes_addresses(host: Host, machine: Machine) -> None:
    await machine.apply("deploy", WEBHOOK)
    await machine.settled()
    where = "/api/automations/automations/deploy/webhook"
    async with client(host, rules=["automations.automation.read", "automations.automation.run"]) as http:
        assert (await http.post(where)).status_code == 403
        assert (await http.delete(where)).status_code == 403
    async with client(host) as http, stranger(host) as sender:
        path = await address(http, "deploy")
        assert (await http.delete(where)).status_code == 204
        assert (await http.delete(where)).status_code == 404
        for odd in ("a%00b", "%ff", "x" * 3000):
            for method in ("GET", "POST", "DELETE"):
                answer = await http.request(method, f"/api/automations/automations/{odd}/webhook")
                assert answer.status_code in (404, 422)
            assert (await sender.post(f"/api/automations/hooks/{odd}")).status_code in (404, 422)
        assert (await sender.post(path)).status_code == 404
        path = await address(http, "deploy")
        await machine.delete("deploy")
        await machine.apply("deploy", WEBHOOK)
        await machine.settled()

        async def is_gone() -> bool:
            return (await http.get(where)).status_code == 404

        assert await eventually(is_gone), "who makes one of that name anew makes another address"
        assert (await sender.post(path)).status_code == 404


async def test_the_hooks_that_can_be_listened_to_are_listed_with_their_fields(host: Host) -> None:
    async with client(host, rules=["automations.automation.read"]) as http:
        hooks = {one["name"]: one for one in (await http.get("/api/automations/triggers")).json()["hooks"]}
    bell = hooks["bell-rung"]
    assert (bell["plugin"], bell["meaning"]) == ("automations", "A bell has rung.")
    assert [(one["name"], one["type"]) for one in bell["fields"]] == [
        ("n", "int"),
        ("loud", "bool"),
        ("tower", "string or null"),
    ]
    assert "automation-run-finished" in hooks


async def test_automations_that_start_each_other_by_webhooks_are_counted_and_end(
    host: Host, machine: Machine
) -> None:
    await machine.apply("loop", WEBHOOK, mode="parallel", max=100)
    await machine.settled()
    async with client(host) as http, stranger(host) as sender:
        path = await address(http, "loop")
        cause, depths = "", []
        for _ in range(MAX_RUNS_DEEP + 2):
            answer = await sender.post(path, headers={"Ringfence-Cause": cause} if cause else {})
            cause = answer.json()["run"]
            run = await machine.ended(UUID(cause))
            depths.append((run.depth, run.status))
            assert "ringfence-cause" not in run.event["headers"]
        assert depths == [
            *((depth, "succeeded") for depth in range(MAX_RUNS_DEEP + 1)),
            (MAX_RUNS_DEEP + 1, "failed"),
        ]
        # What is no run of this host's says nothing.
        for nothing in ("x", str(uuid4())):
            answer = await sender.post(path, headers={"Ringfence-Cause": nothing})
            assert (await machine.ended(UUID(answer.json()["run"]))).depth == 0


async def test_of_the_event_of_a_skipped_run_no_more_is_kept_than_tells_it_again(
    host: Host, machine: Machine
) -> None:
    await machine.apply("deploy", WEBHOOK)
    await machine.settled()
    machine.score.doing["work"] = gate = Gate()
    async with client(host) as http, stranger(host) as sender:
        path = await address(http, "deploy")
        await sender.post(path, json={"ref": "main"})
        await sender.post(path, json={"ref": "small"})
        await sender.post(path, json={"ref": "x" * 100_000})
    begun, small, large = await machine.shown("deploy")
    gate.open.set()
    await machine.ended(begun.id)
    assert [one.status for one in (small, large)] == ["skipped", "skipped"]
    assert small.event["body"] == {"ref": "small"}
    assert set(large.event) == {"leftOut", "bytes", "sha256"}
    assert large.event["bytes"] > 100_000
