"""Services of the machine itself: listed ports of its loopback, and listed Unix sockets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ringfence.sandbox.egress.relaying.inside.whereabouts import OWN_V4, OWN_V6

from tests.names_world import API, NamesWorld
from tests.primitives import requires
from tests.sandbox.names.attempts import BLOCKED, answer, attempt, egress, network, query

pytestmark = [pytest.mark.slow, requires("root", "user namespaces", "ip")]


def test_a_service_of_the_machine_itself_is_reached_on_its_port_alone(names: NamesWorld, uid: int) -> None:
    outcomes = attempt(
        names,
        uid,
        network("localhost:8080"),
        ("web", "127.0.0.1", 8080),
        ("web", "::1", 8080),
        ("web", "localhost", 8080),
        ("web", "127.0.0.1", 80),
        ("web", "::1", 80),
        ("web", "127.0.0.53", 53),
        ("web", "127.9.9.9", 8080),
        ("web", API, 8080),
    )

    assert outcomes[0] == "reached 127.0.0.1 8080 127.0.0.1"
    assert outcomes[1] == "reached ::1 8080 ::1"
    assert outcomes[2] in ("reached 127.0.0.1 8080 localhost", "reached ::1 8080 localhost")
    assert set(outcomes[3:]) <= BLOCKED


def test_services_at_other_addresses_of_the_loopback_stay_out_of_reach(names: NamesWorld, uid: int) -> None:
    # The port is listed for another host, too, so that it is taken on every address inside.
    outcomes = attempt(
        names,
        uid,
        network("localhost:8080,53", f"{API}:8080,53"),
        ("web", "127.9.9.9", 8080),
        ("web", "127.0.0.53", 8080),
        ("ask", "127.0.0.53", 53, "udp", query("api.test", "A")),
        ("ask", "127.0.0.53", 53, "tcp", query("api.test", "A")),
        ("web", "127.0.0.1", 8080),
    )

    assert set(outcomes[:4]) <= BLOCKED
    assert outcomes[4] == "reached 127.0.0.1 8080 127.0.0.1"


@pytest.mark.parametrize(
    "policy",
    [
        network("localhost:1-65535"),
        network("localhost:80,8080", API),
        {"network": {"mode": "unrestricted", "allow": ["localhost:80,8080"]}},
    ],
    ids=["all its ports", "beside any port", "beside everything"],
)
def test_any_ports_of_the_machine_itself_can_be_listed(
    names: NamesWorld, uid: int, policy: dict[str, object]
) -> None:
    outcomes = attempt(
        names,
        uid,
        policy,
        ("web", "127.0.0.1", 80),
        ("web", "::1", 8080),
        ("web", "127.9.9.9", 80),
        ("udp", "127.0.0.1", 80, "?"),
    )

    assert outcomes[:2] == ["reached 127.0.0.1 80 127.0.0.1", "reached ::1 8080 ::1"]
    # Nobody listens to datagrams there.
    assert set(outcomes[2:]) == {"ECONNREFUSED"}


@pytest.mark.parametrize("more", [(), (API,)], ids=["", "any port"])
def test_the_resolver_stays_where_it_is_if_its_port_is_one_of_the_machines(
    names: NamesWorld, uid: int, more: tuple[str, ...]
) -> None:
    # By TCP the kernel spreads connections over those who listen in the same place.
    asked = [("ask", "127.0.0.1", 53, how, query("four.test", "A")) for how in ("tcp", "udp") * 8]

    outcomes = attempt(names, uid, network("localhost:53", "four.test:80", *more), *asked)

    assert [answer(each) for each in outcomes] == [("NOERROR", [API])] * 16


OWN_SERVER = """
import socket, threading
def main(port):
    outcomes = []
    for host in ("127.0.0.1", "::1"):
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
            def serve():
                end, _ = server.accept()
                with end:
                    end.sendall(b"own")
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            with socket.create_connection(server.getsockname()[:2], 20) as end:
                outcomes.append(end.recv(10).decode())
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        one.settimeout(20)
        one.bind(("127.0.0.1", 0))
        two.sendto(b"own", one.getsockname())
        outcomes.append(one.recv(10).decode())
    return outcomes
"""


@pytest.mark.parametrize("port", [0, 5000])
def test_the_runs_own_loopback_works(names: NamesWorld, uid: int, port: int) -> None:
    policy = network("api.test:80", "localhost:8080")
    result = names.run("python", OWN_SERVER, policy=policy, uid=uid, context=port)

    assert result.value == ["own", "own", "own"], result.stderr


OWN_ADDRESSES = """
import socket
def main(addresses):
    outcomes = []
    for host in addresses:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as server:
            with socket.create_connection(server.getsockname()[:2], 20) as one:
                two, _ = server.accept()
                with two:
                    two.sendall(b"own")
                    outcomes.append(one.recv(10).decode())
        with socket.socket(family, socket.SOCK_DGRAM) as one, socket.socket(family, socket.SOCK_DGRAM) as two:
            one.bind((host, 0))
            two.connect(one.getsockname())
            one.settimeout(20)
            two.settimeout(20)
            two.send(b"own")
            _, asker = one.recvfrom(10)
            # What the relay does about it, it has done when it has answered this.
            try:
                socket.getaddrinfo("unlisted.invalid", 1)
            except OSError:
                pass
            one.sendto(b"answer", asker)
            outcomes.append(two.recv(10).decode())
    return outcomes
"""


@pytest.mark.parametrize(
    "policy",
    [{"network": {"mode": "unrestricted"}}, network(API), network(f"{API}:80")],
    ids=["unrestricted", "any port", "one port"],
)
def test_programs_of_a_run_talk_to_each_other_and_nothing_of_it_leaves(
    names: NamesWorld, uid: int, policy: dict[str, object]
) -> None:
    own = ["127.0.0.1", "::1", OWN_V4, OWN_V6]

    result = names.run("python", OWN_ADDRESSES, policy=policy, uid=uid, context=own)

    assert result.value == ["own", "answer"] * 4, result.stderr
    record = egress(result)
    assert (record["used"], record["refused"]) == ([], [])


SERVE_UNIX = """
import os, socket, sys
for path in sys.argv[1:]:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    os.chmod(path, 0o666)
    server.listen()
    if os.fork() == 0:
        while True:
            end, _ = server.accept()
            end.sendall(path.encode())
            end.close()
print("listening", flush=True)
sys.stdin.read()
os.killpg(0, 15)
"""

CONNECT_UNIX = """
import socket
def main(paths):
    outcomes = []
    for path in paths:
        with socket.socket(socket.AF_UNIX) as end:
            try:
                end.connect(path)
                outcomes.append(end.recv(100).decode())
            except OSError as error:
                outcomes.append(type(error).__name__)
    return outcomes
"""


def test_a_listed_unix_socket_is_reached_and_those_beside_it_are_not(names: NamesWorld, uid: int) -> None:
    paths = [f"/srv/listed-{uid}.sock", f"/srv/beside-{uid}.sock"]
    server = names.start(
        sys.executable,
        "-c",
        SERVE_UNIX,
        *paths,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
    )
    with server:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        result = names.run("python", CONNECT_UNIX, policy=network(f"unix:{paths[0]}"), uid=uid, context=paths)
        server.communicate()

    assert result.value == [paths[0], "FileNotFoundError"], (result.stderr, result.sandbox)


def test_a_unix_socket_that_is_not_there_is_told_and_is_not_there_inside(names: NamesWorld, uid: int) -> None:
    path = "/srv/none.sock"

    result = names.run("python", CONNECT_UNIX, policy=network(f"unix:{path}"), uid=uid, context=[path])

    assert result.refused or result.value == ["FileNotFoundError"]
    told = [str(each) for each in (*result.sandbox.downgrades, *result.sandbox.notes)]
    assert any(path in each for each in told)
    assert not Path(path).exists()
