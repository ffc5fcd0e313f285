"""The satellite plugin on a real host and a real database.

It is spoken to by peers whose every frame is chosen here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from dataclasses import replace

import pytest
from ringfence.sandbox import DEFAULT_POLICY
from ringfence.web.websocket import DirectWebSocketProtocol, TextMessage
from ringfence_satellite.protocol import (
    MAX_FRAME_BURST,
    Authenticate,
    CheckResult,
    CloseCode,
    Heartbeat,
    RequestRunSecrets,
    RunFinished,
    SandboxPolicyApplied,
    WireDowngrade,
)
from ringfence_satellite.server import liveness
from ringfence_satellite.server.connections import connection
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.tokens import digest
from ringfence_satellite.server.websocket import admission, endpoint
from sqlalchemy import text

from tests.satellite.instances import POLICY, SATELLITES, Instance, Registered, another_policy
from tests.shared_hosts import SHARED
from tests.waiting import until

pytestmark = SHARED


async def test_a_satellite_is_welcomed_with_the_policy_and_its_revision(instance: Instance) -> None:
    satellite = await instance.register()
    revision = await instance.set_policy(another_policy())
    async with instance.peer(satellite) as peer:
        welcome = await peer.hear("authenticated")
    assert welcome["satelliteId"] == satellite.id
    assert welcome["sandboxPolicy"] == (await instance.api.get(POLICY)).json()["policy"]
    assert welcome["sandboxPolicy"] != DEFAULT_POLICY.to_wire()
    assert welcome["sandboxPolicyRevision"] == revision
    assert welcome["assignments"] == []


async def test_a_change_reaches_a_connected_satellite_and_its_acknowledgement_is_shown(
    instance: Instance,
) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        revision = await instance.set_policy(another_policy())
        pushed = await peer.hear("sandbox_policy")
        assert pushed["revision"] == revision
        assert pushed["policy"]["network"]["mode"] == "deny"
        await peer.say(
            SandboxPolicyApplied(
                revision=revision,
                enforced={"network": True, "privilege": False},
                downgrades=(WireDowngrade(layer="privilege", reason="not root"),),
            )
        )
        shown = await instance.until(satellite, lambda one: one["appliedRevision"] == revision)
    assert shown["enforced"] == {"network": True, "privilege": False}
    assert shown["downgrades"] == [{"layer": "privilege", "reason": "not root"}]
    assert shown["appliedAt"] is not None


async def test_an_acknowledged_revision_never_goes_down(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        await peer.applied(7)
        await instance.until(satellite, lambda one: one["appliedRevision"] == 7)
        await peer.applied(3)
        await peer.say(Heartbeat(version="later"))
        shown = await instance.until(satellite, lambda one: one["version"] == "later")
        assert shown["appliedRevision"] == 7


async def test_wrong_credentials_are_all_refused_alike(instance: Instance) -> None:
    satellite = await instance.register()
    for id, token in (
        (satellite.id, "wrong"),
        (str(uuid.uuid4()), satellite.token),
        ("edge-1", satellite.token),
    ):
        async with instance.peer(Registered(id, token)) as peer:
            refused = await peer.hear("auth_failed")
            assert refused["reason"] == admission.REFUSED
            assert (await peer.closed())[0] == CloseCode.AUTH_FAILED


async def test_whatever_comes_before_authenticate_is_refused(instance: Instance) -> None:
    for first in (Heartbeat().encode(), "nonsense", "[]", '{"type": "moon_phase"}', "x" * 60_000):
        async with instance.peer() as peer:
            await peer.say(first)
            refused = await peer.hear("auth_failed")
            assert "authenticate must come first" in refused["reason"]
            assert (await peer.closed())[0] == CloseCode.AUTH_FAILED


async def test_who_says_nothing_is_refused_in_time(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "AUTHENTICATE_SECONDS", 0.05)
    async with instance.peer() as peer:
        refused = await peer.hear("auth_failed")
        assert "not authenticated within" in refused["reason"]
        assert (await peer.closed())[0] == CloseCode.AUTH_FAILED


async def test_the_token_is_kept_as_a_digest_alone(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.host.runtime.database.sessions() as session:
        found = text("SELECT * FROM satellite_satellites WHERE id = :id")
        row = (await session.execute(found, {"id": satellite.id})).one()
    assert bytes(row.token_digest) == digest(satellite.token)
    assert satellite.token not in repr(row)


async def test_a_run_is_asked_of_the_satellite_and_answered(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        asking = asyncio.create_task(instance.run(satellite, script="echo hi", context={"a": [1]}))
        asked = await peer.answer_run("hi\n")
        answer = await asking
    assert asked["kind"] == "shell"
    assert asked["script"] == "echo hi"
    assert asked["context"] == {"a": [1]}
    assert asked["timeoutMs"] == 5000
    assert (answer["state"], answer["outcome"]) == ("ended", "finished")
    assert answer["result"]["stdout"] == "hi\n"
    assert answer["result"]["sandbox"] == {"enforced": {"network": True}}


async def test_a_run_that_the_satellite_could_not_start_says_why(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        asking = asyncio.create_task(instance.run(satellite))
        asked = await peer.hear("run_script")
        await peer.say(RunFinished(run_id=asked["runId"], error="busy: 64 runs"))
        answer = await asking
    assert answer["outcome"] == "refused"
    assert "busy" in answer["reason"]
    assert answer["result"] is None


async def test_a_run_is_not_waited_for_after_its_satellite_is_lost(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        asking = asyncio.create_task(instance.run(satellite))
        await peer.hear("run_script")
        peer.socket.transport.abort()
        answer = await asking
    assert answer["outcome"] == "lost"
    assert "lost" in answer["reason"]


async def test_a_run_without_an_answer_is_lost_and_not_to_go_on(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    satellite = await instance.register()
    monkeypatch.setattr(instance.plugin._deliveries, "_grace", 0.01)
    async with instance.connected(satellite) as peer:
        answer = await instance.run(satellite, timeoutMs=1)
        assert answer["outcome"] == "lost"
        assert "did not answer in time" in answer["reason"]
        late = await peer.hear("run_script")
        assert (await peer.hear("cancel_run"))["runId"] == late["runId"]
        await peer.say(RunFinished.of(late["runId"], {"exitCode": 0, "sandbox": {}}))
        await peer.say(Heartbeat(version="still here"))
        await instance.until(satellite, lambda one: one["version"] == "still here")


async def test_runs_need_a_satellite_that_is_registered(instance: Instance) -> None:
    assert (await instance.ask(Registered(str(uuid.uuid4()), ""))).status_code == 404


async def test_what_was_not_asked_for_is_dropped_and_the_socket_stays(instance: Instance) -> None:
    mine, other = await instance.register(), await instance.register()
    dropped = instance.plugin._relay.traffic.dropped
    before = dropped.of("not-asked-for")
    async with instance.connected(mine) as rogue, instance.connected(other) as honest:
        asking = asyncio.create_task(instance.run(other))
        asked = await honest.hear("run_script")
        await rogue.say(RunFinished.of(asked["runId"], {"exitCode": 0, "stdout": "forged", "sandbox": {}}))
        await rogue.say(CheckResult(config_id="c", system_id="s", status="healthy", executed_at="now"))
        await rogue.say(RequestRunSecrets(request_id="q", config_id="c"))
        assert "no secrets" in (await rogue.hear("run_secrets"))["error"]
        await rogue.say(Authenticate(client_id=other.id, token=other.token))
        await rogue.say('{"type": "moon_phase"}')
        await rogue.socket.send(b"\x00")
        await rogue.applied(1)
        await instance.until(mine, lambda one: one["appliedRevision"] == 1)
        assert dropped.of("not-asked-for") > before
        await honest.say(RunFinished.of(asked["runId"], {"exitCode": 0, "stdout": "true", "sandbox": {}}))
        assert (await asking)["result"]["stdout"] == "true"


async def test_a_frame_that_cannot_be_read_closes_the_socket_with_the_reason(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        await peer.say('{"type": "heartbeat", "uptimeSeconds": "soon"}')
        code, reason = await peer.closed()
    assert code == CloseCode.UNREADABLE
    assert "uptimeSeconds" in reason


async def test_a_satellite_that_talks_too_fast_is_cut_off_with_the_reason(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        with contextlib.suppress(Exception):
            for _ in range(int(MAX_FRAME_BURST) * 2):
                await peer.say(Heartbeat())
        code, _ = await peer.closed()
    assert code == CloseCode.TOO_FAST


async def test_answers_that_were_asked_for_are_no_reason_to_cut_a_satellite_off(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_FRAMES_PER_SECOND", 0.01)
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        # As many frames as a satellite may send by itself, and then the answers to what it is asked.
        for _ in range(int(MAX_FRAME_BURST) - 5):
            await peer.say(Heartbeat())
        for _ in range(10):
            asking = asyncio.create_task(instance.run(satellite))
            await peer.answer_run()
            assert (await asking)["outcome"] == "finished"


async def test_rotating_the_token_closes_the_connection_and_voids_the_old_one(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        answer = await instance.api.post(f"{SATELLITES}/{satellite.id}/rotate-token")
        assert answer.status_code == 200
        assert (await peer.closed())[0] == CloseCode.REVOKED
    async with instance.peer(satellite) as peer:
        await peer.hear("auth_failed")
    async with instance.peer(Registered(satellite.id, answer.json()["token"])) as peer:
        await peer.hear("authenticated")


async def test_a_token_that_is_rotated_while_it_is_looked_up_lets_nobody_in(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up has the old digest in its hands when the rotation commits and is told to this instance."""
    satellite = await instance.register()
    looked_up, go_on = asyncio.Event(), asyncio.Event()
    credentials = instance.plugin._credentials
    load = credentials._load

    async def slow_load(ids):  # type: ignore[no-untyped-def]
        found = await load(ids)
        looked_up.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(credentials, "_load", slow_load)
    async with instance.peer(satellite) as peer:
        await looked_up.wait()
        # Taken before the rotation, and copied: the connection forgets its claim as soon as it has ended.
        claim = tuple(instance.plugin._relay._claims[uuid.UUID(satellite.id)])
        assert (await instance.api.post(f"{SATELLITES}/{satellite.id}/rotate-token")).status_code == 200
        await until(lambda: all(one.ending for one in claim))
        go_on.set()
        code, _ = await peer.closed()
    assert code == CloseCode.REVOKED
    assert instance.plugin._relay.connection_of(uuid.UUID(satellite.id)) is None


async def test_deleting_a_satellite_closes_its_connection(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        assert (await instance.api.delete(f"{SATELLITES}/{satellite.id}")).status_code == 204
        assert (await peer.closed())[0] == CloseCode.DELETED
    assert (await instance.api.get(f"{SATELLITES}/{satellite.id}")).status_code == 404
    assert (await instance.api.delete(f"{SATELLITES}/{satellite.id}")).status_code == 404


async def test_a_second_connection_of_a_satellite_takes_the_place_of_the_first(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as first, instance.connected(satellite) as second:
        assert (await first.closed())[0] == CloseCode.REPLACED
        asking = asyncio.create_task(instance.run(satellite))
        await second.answer_run()
        assert (await asking)["outcome"] == "finished"
    # That the first one ended later is no sign that the satellite is away.


async def test_a_change_that_races_a_connect_is_neither_missed_nor_undone(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is read for a satellite, then changed, and only then is the satellite welcomed."""
    satellite = await instance.register()
    read, go_on = asyncio.Event(), asyncio.Event()
    relay = instance.plugin._relay
    read_policy = relay._read

    async def slow_read():  # type: ignore[no-untyped-def]
        found = await read_policy()
        read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(relay, "_read", slow_read)
    async with instance.peer(satellite) as peer:
        await read.wait()
        revision = await instance.set_policy(another_policy())
        await until(lambda: relay.latest is not None and relay.latest.revision == revision)
        go_on.set()
        welcome = await peer.hear("authenticated")
        seen = [welcome["sandboxPolicyRevision"]]
        if seen[-1] != revision:
            seen.append((await peer.hear("sandbox_policy"))["revision"])
    assert seen[-1] == revision
    assert seen == sorted(seen)


async def test_a_change_between_the_read_and_the_welcome_is_not_missed(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection has been read a policy for, and waits for its assignments, when the policy changes."""
    satellite = await instance.register()
    before = await instance.revision()
    asked, go_on = asyncio.Event(), asyncio.Event()
    work, relay = instance.plugin._work, instance.plugin._relay
    assignments = work.assignments

    async def slow_assignments(one):  # type: ignore[no-untyped-def]
        asked.set()
        await go_on.wait()
        return await assignments(one)

    monkeypatch.setattr(work, "assignments", slow_assignments)
    async with instance.peer(satellite) as peer:
        await asked.wait()
        revision = await instance.set_policy(another_policy())
        await until(lambda: relay.latest is not None and relay.latest.revision == revision)
        go_on.set()
        assert (await peer.hear("authenticated"))["sandboxPolicyRevision"] == before
        assert (await peer.hear("sandbox_policy"))["revision"] == revision


async def test_a_core_that_cannot_read_the_policy_leaves_it_out_and_sends_it_when_it_can(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    satellite = await instance.register()
    relay = instance.plugin._relay
    read_policy = relay._read

    async def broken():  # type: ignore[no-untyped-def]
        raise OSError("the policy cannot be read")

    monkeypatch.setattr(relay, "_read", broken)
    async with instance.peer(satellite) as peer:
        welcome = await peer.hear("authenticated")
        assert "sandboxPolicy" not in welcome
        assert "sandboxPolicyRevision" not in welcome
        monkeypatch.setattr(relay, "_read", read_policy)
        assert (await peer.hear("sandbox_policy"))["revision"] == await instance.revision()


async def test_a_satellite_that_stops_reading_delays_nobody_and_then_gets_only_the_newest_policy(
    instance: Instance,
) -> None:
    stuck, lively = await instance.register(), await instance.register()
    hosts = [f"10.0.{high}.{low}" for high in range(4) for low in range(256)]
    with socket.socket() as small:
        # Small socket buffers, so that a peer that does not read is noticed after a few changes.
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", int(instance.url.rpartition(":")[2])))
        async with instance.connected(stuck, sock=small) as sleeper, instance.connected(lively) as peer:
            held = instance.plugin._relay.connection_of(uuid.UUID(stuck.id))
            assert held is not None
            shrink_send_buffer(held)
            sleeper.socket.transport.pause_reading()
            sent: list[int] = []
            after = 0
            while held.stuck_since is None or after < 5:
                after += held.stuck_since is not None
                sent.append(
                    await instance.set_policy({"network": {"allow": [*hosts, f"10.9.0.{len(sent)}"]}})
                )
                assert (await peer.hear("sandbox_policy"))["revision"] == sent[-1]
            sleeper.socket.transport.resume_reading()
            received: list[int] = []
            while not received or received[-1] != sent[-1]:
                received.append((await sleeper.hear("sandbox_policy"))["revision"])
    assert received == sorted(set(received))
    assert len(received) < len(sent), "of several waiting policies only the newest is sent"


async def test_a_satellite_that_goes_on_not_reading_is_dropped(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    satellite = await instance.register()
    monkeypatch.setattr(liveness, "STUCK_SECONDS", 0.1)
    with socket.socket() as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", int(instance.url.rpartition(":")[2])))
        async with instance.connected(satellite, sock=small) as sleeper:
            held = instance.plugin._relay.connection_of(uuid.UUID(satellite.id))
            assert held is not None
            shrink_send_buffer(held)
            sleeper.socket.transport.pause_reading()
            padding = TextMessage('{"type": "moon_phase", "padding": "%s"}' % ("x" * 100_000))
            while held.stuck_since is None:
                held.send(padding)
                await asyncio.sleep(0)
            await until(lambda: instance.plugin._relay.connection_of(uuid.UUID(satellite.id)) is None)
            shown = await instance.until(satellite, lambda one: one["instance"] is None)
            assert shown["status"] == "online", "its heartbeats may come back on another connection"
            sleeper.socket.transport.abort()


def shrink_send_buffer(connection: Connection) -> None:
    """Have the kernel take little of what is sent on this connection."""
    assert isinstance(connection._direct, DirectWebSocketProtocol), "the host serves with direct writes"
    server_socket = connection._direct.transport.get_extra_info("socket")
    server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_both_instances_tell_their_satellites_and_share_their_state(
    instance: Instance, other: Instance
) -> None:
    here, there = await instance.register("here"), await other.register("there")
    async with instance.connected(here) as first, other.connected(there) as second:
        revisions = [await each.set_policy(another_policy()) for each in (instance, other)]
        for peer in (first, second):
            assert [(await peer.hear("sandbox_policy"))["revision"] for _ in revisions] == revisions
            await peer.applied(revisions[-1])
        for each in (instance, other):
            for satellite in (here, there):
                await each.until(satellite, lambda shown: shown["appliedRevision"] == revisions[-1])


async def test_a_run_without_an_answer_is_lost_through_another_instance_too(
    instance: Instance, other: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    satellite = await instance.register()
    monkeypatch.setattr(other.plugin._deliveries, "_grace", 0.01)
    async with other.connected(satellite) as peer:
        await instance.until(satellite, lambda shown: shown["instance"] == str(other.host.instance_id))
        asking = asyncio.create_task(instance.run(satellite, timeoutMs=1))
        await peer.hear("run_script")
        answer = await asking
    assert answer["outcome"] == "lost"
    assert "did not answer in time" in answer["reason"]


async def test_a_run_reaches_a_satellite_that_another_instance_holds(
    instance: Instance, other: Instance
) -> None:
    satellite = await instance.register()
    async with other.connected(satellite) as peer:
        await instance.until(satellite, lambda shown: shown["status"] == "online")
        asking = asyncio.create_task(instance.run(satellite, script="echo across"))
        asked = await peer.answer_run("across\n")
        answer = await asking
    assert asked["script"] == "echo across"
    assert answer["result"]["stdout"] == "across\n"
    assert "type" not in answer["result"]
    async with instance.host.runtime.database.sessions() as session:
        request = text("SELECT request FROM satellite_runs WHERE id = :id")
        kept = (await session.execute(request, {"id": answer["id"]})).scalar_one()
        assert kept is None, "the script is not kept once it was delivered"
        logged = (
            await session.execute(text("SELECT string_agg(payload::text, ' ') FROM events"))
        ).scalar_one()
    assert "across" not in logged


async def test_another_instance_closes_the_connection_too(instance: Instance, other: Instance) -> None:
    satellite = await instance.register()
    async with other.connected(satellite) as peer:
        rotated = await instance.api.post(f"{SATELLITES}/{satellite.id}/rotate-token")
        assert (await peer.closed())[0] == CloseCode.REVOKED
    async with other.connected(replace(satellite, token=rotated.json()["token"])) as peer:
        await instance.api.delete(f"{SATELLITES}/{satellite.id}")
        assert (await peer.closed())[0] == CloseCode.DELETED


async def test_a_satellite_that_moves_to_another_instance_is_closed_on_the_first_and_stays_online(
    instance: Instance, other: Instance
) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as old:
        await instance.until(satellite, lambda shown: shown["instance"] == str(instance.host.instance_id))
        async with other.connected(satellite):
            assert (await old.closed())[0] == CloseCode.REPLACED
            shown = await instance.until(
                satellite, lambda shown: shown["instance"] == str(other.host.instance_id)
            )
            assert shown["status"] == "online"


async def test_a_clean_goodbye_is_offline_at_once(instance: Instance) -> None:
    satellite = await instance.register()
    assert (await instance.show(satellite))["status"] == "never"
    async with instance.connected(satellite):
        await instance.until(satellite, lambda one: one["status"] == "online")
    await instance.until(satellite, lambda one: one["status"] == "offline")


HEARD_BEFORE = text("""
    UPDATE satellite_satellites SET last_heartbeat_at = now() - make_interval(mins => :minutes) WHERE id = :id
""")


async def test_a_lost_connection_is_offline_only_after_the_threshold(instance: Instance) -> None:
    satellite = await instance.register(offlineAfterSeconds=3600)
    async with instance.connected(satellite) as peer:
        await instance.until(satellite, lambda one: one["status"] == "online")
        peer.socket.transport.abort()
        shown = await instance.until(satellite, lambda one: one["instance"] is None)
    for minutes, status in ((59, "online"), (61, "offline")):
        async with instance.host.runtime.database.sessions.begin() as session:
            await session.execute(HEARD_BEFORE, {"minutes": minutes, "id": satellite.id})
        shown = await instance.show(satellite)
        assert shown["status"] == status, shown


async def test_the_fleet_can_be_filtered_paged_and_changed(instance: Instance) -> None:
    for name, region, tags in [("a", "eu", ["gpu"]), ("b", "us", ["gpu", "big"]), ("c", "eu", [])]:
        await instance.register(name, region=region, tags=tags)

    async def names(**query: object) -> list[str]:
        answer = await instance.api.get(SATELLITES, params=query)  # type: ignore[arg-type]
        return [one["name"] for one in answer.json()["satellites"]]

    assert await names() == ["a", "b", "c"]
    assert await names(region="eu") == ["a", "c"]
    assert await names(tag="gpu") == ["a", "b"]
    assert await names(tag=["gpu", "big"]) == ["b"]
    assert await names(status="never") == ["a", "b", "c"]
    assert await names(status="online") == []
    assert await names(limit=2) == ["a", "b"]
    assert await names(after="b") == ["c"]
    first = (await instance.api.get(SATELLITES)).json()["satellites"][0]
    changed = await instance.api.patch(
        f"{SATELLITES}/{first['id']}", json={"name": "z", "tags": ["new", "new"]}
    )
    assert changed.json()["name"] == "z"
    assert changed.json()["tags"] == ["new"]
    assert changed.json()["region"] == "eu"
    assert (await instance.api.patch(f"{SATELLITES}/{first['id']}", json={"name": "b"})).status_code == 409
    assert (await instance.api.post(SATELLITES, json={"name": "b", "region": "eu"})).status_code == 409
    assert (await instance.api.post(SATELLITES, json={"name": "x\u0000y", "region": "eu"})).status_code == 422


async def test_without_the_access_rule_nothing_is_shown_or_changed(instance: Instance) -> None:
    satellite = await instance.register()
    made = await instance.api.post("/api/host/tokens", json={"name": "n", "rules": ["host.plugin.read"]})
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    for method, path in [
        ("GET", SATELLITES),
        ("POST", SATELLITES),
        ("GET", f"{SATELLITES}/{satellite.id}"),
        ("PATCH", f"{SATELLITES}/{satellite.id}"),
        ("DELETE", f"{SATELLITES}/{satellite.id}"),
        ("POST", f"{SATELLITES}/{satellite.id}/rotate-token"),
        ("POST", f"{SATELLITES}/{satellite.id}/runs"),
    ]:
        body = {"name": "x", "region": "eu"} if path == SATELLITES else {"kind": "shell", "script": "true"}
        answer = await instance.api.request(
            method, path, headers=headers, json=body if method != "GET" else None
        )
        assert answer.status_code == 403, (method, path, answer.text)
