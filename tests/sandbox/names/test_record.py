"""What a run's result says of what it tried on the network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.names_world import API, DEAD, OTHER, SHARED, NamesWorld
from tests.primitives import requires
from tests.sandbox.names.attempts import egress, network, relays, run
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, requires("root", "user namespaces", "ip")]


def test_names_and_destinations_are_told_with_what_came_of_them(names: NamesWorld, uid: int) -> None:
    result = run(
        names,
        uid,
        network("four.test:80,4", "none.test:80", f"{OTHER}:514", f"{DEAD}:80", "localhost:8080"),
        ("web", "four.test"),
        ("web", "four.test"),
        ("web", API, 4),
        ("look", "none.test"),
        ("look", "unlisted.test"),
        ("udp", OTHER, 514, "log"),
        ("connect", DEAD, 80, 0.3),
        ("web", "127.0.0.1", 8080),
        ("web", OTHER, 80),
        ("udp", OTHER, 161, "?"),
    )

    record = egress(result)
    told = {each["name"]: each for each in record["names"]}
    assert told["four.test"]["answered"] == [API]
    assert told["none.test"]["answered"] == "nxdomain"
    assert told["unlisted.test"]["answered"] == "refused"
    assert all(each["count"] >= 1 for each in record["names"])

    used = {(each["address"], each["port"], each["protocol"]): each for each in record["used"]}
    by_name = used[API, 80, "tcp"]
    assert (by_name["name"], by_name["connections"]) == ("four.test", 2)
    assert by_name["sent"] > 0
    assert by_name["received"] > by_name["sent"]
    refused_outside = used[API, 4, "tcp"]
    assert (refused_outside["failed"], refused_outside["connections"]) == ("refused", 0)
    silent = used[DEAD, 80, "tcp"]
    assert (silent["failed"], silent["connections"]) == ("timed out", 0)
    assert used[OTHER, 514, "udp"]["connections"] == 1
    assert used["localhost", 8080, "tcp"]["connections"] == 1

    refused = {(each["address"], each["port"], each["protocol"]): each for each in record["refused"]}
    assert set(refused) == {(OTHER, 80, "tcp"), (OTHER, 161, "udp")}
    assert all(each["why"] == "not allowed" and each["count"] >= 1 for each in refused.values())


def test_a_name_that_means_what_is_blocked_is_told_with_what(names: NamesWorld, uid: int) -> None:
    record = egress(run(names, uid, network("metadata.test:80"), ("look", "metadata.test")))

    [refused] = record["refused"]
    assert (refused["name"], refused["address"]) == ("metadata.test", "169.254.169.254")
    assert refused["why"].startswith("blocked: ")


def test_a_greeting_of_another_server_is_told(names: NamesWorld, uid: int) -> None:
    record = egress(
        run(names, uid, network("one.shared.test:443"), ("tls", "one.shared.test", 443, "two.shared.test"))
    )

    [refused] = record["refused"]
    assert (refused["address"], refused["port"]) == (SHARED, 443)
    assert refused["why"] == "the server name two.shared.test is not allowed"


def test_the_command_line_tells_it_too(names: NamesWorld, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(network("four.test:80")))
    command = [
        sys.executable,
        "-m",
        "ringfence",
        "run",
        "--json",
        "--policy",
        str(policy),
        "-c",
        "getent hosts four.test",
    ]

    with names.start(*command, stdout=subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)}) as started:
        told = json.loads(started.communicate()[0])

    assert told["egress"]["names"] == [{"name": "four.test", "answered": [API], "count": 2}]


UNTIL_CUT = """
import socket
def main(name):
    try:
        while True:
            socket.create_connection((name, 80), 20).close()
    except OSError as error:
        return type(error).__name__
"""


def test_a_relay_that_is_killed_takes_the_network_with_it_and_the_report_says_so(
    names: NamesWorld, uid: int
) -> None:
    name = names.name(f"killed-{uid}.test", A=[API])
    supervisor = names.supervisor(uid).pid

    with ThreadPoolExecutor() as threads:
        running = threads.submit(
            names.run,
            "python",
            UNTIL_CUT,
            policy=network(f"{name}:80"),
            uid=uid,
            context=name,
            env={"RES_OPTIONS": "timeout:1 attempts:1"},
        )
        wait_until(lambda: names.queries(name), "that the script has begun")
        # Those of sandboxes that wait, too.
        for pid in relays(supervisor):
            os.kill(pid, signal.SIGKILL)
        result = running.result()

    assert result.value in ("ConnectionRefusedError", "ConnectionResetError", "gaierror", "TimeoutError")
    assert result.egress is None
    assert any("the relay ended" in note.note for note in result.sandbox.notes)


def test_a_run_without_connections_has_an_empty_record(names: NamesWorld, uid: int) -> None:
    record = egress(run(names, uid, network("four.test:80")))

    assert (record["names"], record["used"], record["refused"]) == ([], [], [])


def test_a_storm_of_attempts_is_counted_and_not_kept(names: NamesWorld, uid: int) -> None:
    steps = [("look", f"n{n}.unlisted.test") for n in range(300)]
    steps += [("connect", "10.9.3.1", port) for port in range(1000, 1300)]  # type: ignore[misc]

    record = egress(run(names, uid, network("four.test:80"), *steps))

    assert len(record["names"]) == len(record["refused"]) == 200
    assert record["more"]["names"] >= 100
    assert record["more"]["refused"] >= 100


@pytest.mark.parametrize("policy", [{"network": {"mode": "deny"}}])
def test_a_run_that_has_no_network_has_no_record(
    names: NamesWorld, uid: int, policy: dict[str, object]
) -> None:
    result = run(names, uid, policy, ("connect", API, 80))

    assert result.model_dump(mode="json", by_alias=True).get("egress") is None


def test_a_name_that_is_a_secret_is_masked_and_the_record_keeps_its_form(names: NamesWorld, uid: int) -> None:
    # As a program writes names, which is in lower case; and texts that are words and numbers of the record itself.
    secrets = ("SeCret-Tenant", "count", "tcp", "refused", "127543", "x")
    steps = [("look", "SeCret-Tenant.unlisted.test"), ("look", ".".join("x" * 120)), ("connect", OTHER, 81)]

    result = run(names, uid, network("four.test:80"), *steps, masked=secrets)

    record = egress(result)
    told = [each["name"] for each in record["names"]]
    assert "***.unlisted.test" in told
    assert not any("secret-tenant" in each.lower() for each in told)
    assert [(each["port"], each["protocol"]) for each in record["refused"]] == [(81, "tcp")]


FLOOD = """
import socket
def main(context):
    address, count = context
    with socket.socket(type=socket.SOCK_DGRAM) as end:
        for n in range(count):
            end.sendto(b"x", (address, 1 + n))
"""


def test_what_is_sent_too_fast_to_be_looked_at_is_counted(names: NamesWorld, uid: int) -> None:
    policy, count = network("four.test:80"), 60_000

    result = names.run("python", FLOOD, policy=policy, uid=uid, context=[OTHER, count])

    assert result.exit_code == 0, result.stderr
    record = egress(result)
    assert sum(each["count"] for each in record["refused"]) + record["more"]["refused"] == count
