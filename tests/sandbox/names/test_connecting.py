"""Connections to what is allowed and to what is not: they tell the truth, whatever their protocol."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.names_world import API, API6, DEAD, GONE, METADATA, OTHER, OTHER6, NamesWorld
from tests.primitives import requires
from tests.sandbox.names.attempts import BLOCKED, attempt, network
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, requires("root", "user namespaces", "ip")]


def test_refused_unreachable_and_silent_hosts_are_that_inside(names: NamesWorld, uid: int) -> None:
    outcomes = attempt(
        names,
        uid,
        network(f"{API}:4,80", f"[{API6}]:4", f"{DEAD}:80", f"{GONE}:80", "dead.test:81", "gone.test:80"),
        ("connect", API, 4),
        ("connect", API6, 4),
        ("connect", DEAD, 80, 0.3),
        ("connect", GONE, 80),
        ("connect", "dead.test", 81, 0.3),
        ("connect", "gone.test", 80),
        ("connect", API, 80),
    )

    assert outcomes == [
        *("ECONNREFUSED", "ECONNREFUSED", "timeout", "EHOSTUNREACH"),
        *("timeout", "EHOSTUNREACH", "connected"),
    ]


# Where `nc` is one of several, it is a link that leads over a directory that scripts do not see.
PROBE = """
for nc in nc.openbsd nc.traditional nc; do command -v $nc >/dev/null && break; done
for place; do $nc -z -w 1 $place; echo $?; done
"""


@requires("nc")
def test_a_port_probe_finds_what_is_there_and_no_more(names: NamesWorld, uid: int) -> None:
    places = [f"{API} 80", f"{API} 4", f"{GONE} 80", f"{DEAD} 80", f"{OTHER} 80"]
    policy = network(f"{API}:4,80", f"{GONE}:80", f"{DEAD}:80")

    result = names.run("shell", PROBE, policy=policy, uid=uid, args=places)

    assert result.stdout.split() == ["0", "1", "1", "1", "1"], result.stderr


def test_what_is_not_listed_fails_at_once(names: NamesWorld, uid: int) -> None:
    """Also at dead hosts and ones that no way leads to, to which a connection would be tried for long."""
    beside = [(OTHER, 80), (OTHER6, 80), (API, 81), (API, 22), (DEAD, 81), (GONE, 81), ("192.0.2.1", 443)]
    beside += [(address, 80) for address in METADATA]

    outcomes = attempt(
        names,
        uid,
        network("api.test:80", f"{DEAD}:80"),
        ("look", "api.test"),
        *(("connect", *each) for each in beside),
        *(("udp", *each, "?") for each in beside),
    )

    assert set(outcomes[1:]) <= BLOCKED


def test_of_two_addresses_the_one_that_answers_is_used(names: NamesWorld, uid: int) -> None:
    script = """
import asyncio
async def connect():
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection("half.test", 80, happy_eyeballs_delay=0.2), 30
    )
    writer.close()
    return writer.get_extra_info("peername")[0]
def main(context):
    return asyncio.run(connect())
"""
    result = names.run("python", script, policy=network("half.test:80"), uid=uid)

    assert result.value == API, result.stderr


@pytest.mark.parametrize("port", [514, 161, 123])
def test_udp_services_answer(names: NamesWorld, uid: int, port: int) -> None:
    by_name, by_address, by_ipv6, twice = attempt(
        names,
        uid,
        network(f"four.test:{port}", f"{OTHER}:{port}", f"[{API6}]:{port}"),
        ("udp", "four.test", port, "one"),
        ("udp", OTHER, port, "two"),
        ("udp", API6, port, "three"),
        ("udp", OTHER, port, "four"),
    )

    assert by_name == f"udp {API} {port} one"
    assert by_address == f"udp {OTHER} {port} two"
    assert by_ipv6 == f"udp {API6} {port} three"
    assert twice == f"udp {OTHER} {port} four"


def test_udp_to_a_port_where_nobody_is_is_refused_as_outside(names: NamesWorld, uid: int) -> None:
    [outcome] = attempt(names, uid, network(f"{API}:444"), ("udp", API, 444, "?"))

    assert outcome == "ECONNREFUSED"


EMPTY_AND_MANY = """
import socket
def main(addresses):
    outcomes = []
    for address in addresses:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.settimeout(20)
            end.connect((address, 514))
            end.send(b"")
            outcomes.append(end.recv(100).decode())
            end.setsockopt(socket.IPPROTO_UDP, 103, 10)  # UDP_SEGMENT
            end.send(b"0123456789" * 2 + b"012")
            outcomes += sorted(end.recv(100).decode() for _ in range(3))
    return outcomes
"""


def test_empty_datagrams_and_several_sent_at_once_pass_as_they_are(names: NamesWorld, uid: int) -> None:
    addresses = [API, API6]

    result = names.run(
        "python", EMPTY_AND_MANY, policy=network(f"{API}:514", f"[{API6}]:514"), uid=uid, context=addresses
    )

    expected = [f"udp {each} 514 {text}" for each in addresses for text in ("", "012", *["0123456789"] * 2)]
    assert result.value == expected, result.stderr


UNTIL_ANSWERED = """
import socket
def main(context):
    name, address = context
    with socket.socket(type=socket.SOCK_DGRAM) as end:
        end.settimeout(0.05)
        end.connect((address, 514))
        end.send(b"too early")
        socket.gethostbyname(name)
        for _ in range(1200):
            end.send(b"?")
            try:
                return end.recv(100).decode()
            except TimeoutError:
                pass
"""

ANSWER = """
import socket, subprocess, sys
subprocess.run(["ip", "address", "add", sys.argv[1], "dev", "lo"], check=True)
with socket.socket(type=socket.SOCK_DGRAM) as end:
    end.bind((sys.argv[1], 514))
    end.settimeout(60)
    _, asker = end.recvfrom(100)
    end.sendto(b"here", asker)
"""


def test_a_host_to_which_there_was_no_way_is_reached_when_there_is_one(names: NamesWorld, uid: int) -> None:
    name, late = names.name(f"late-{uid}.test", A=[API]), f"10.9.7.{2 + bool(uid)}"
    with names.start("ip", "route", "add", "unreachable", late) as added:
        assert added.wait() == 0

    with ThreadPoolExecutor() as threads:
        running = threads.submit(
            names.run,
            "python",
            UNTIL_ANSWERED,
            policy=network(f"{late}:514", f"{name}:80"),
            uid=uid,
            context=[name, late],
        )
        wait_until(lambda: names.queries(name), "that the script has begun")
        with names.start(sys.executable, "-c", ANSWER, late) as answering:
            result = running.result()
            assert answering.wait() == 0

    assert result.value == "here", result.stderr


def test_large_datagrams_pass_whole(names: NamesWorld, uid: int) -> None:
    text = "x" * 8000
    [outcome] = attempt(names, uid, network(f"{API}:514"), ("udp", API, 514, text))

    assert outcome == f"udp {API} 514 {text}"


ECHO = """
import hashlib, os, socket, threading
def main(context):
    host, count = context
    data = os.urandom(1 << 20)
    digests = hashlib.sha256(), hashlib.sha256()
    with socket.create_connection((host, 7), 60) as end:
        def send():
            for _ in range(count):
                end.sendall(data)
                digests[0].update(data)
            end.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=send)
        thread.start()
        while more := end.recv(1 << 20):
            digests[1].update(more)
        thread.join()
    return [each.hexdigest() for each in digests]
"""


def test_bytes_pass_unchanged_in_both_directions_and_each_ends_by_itself(names: NamesWorld, uid: int) -> None:
    result = names.run("python", ECHO, policy=network("four.test:7"), uid=uid, context=["four.test", 20])

    assert result.exit_code == 0, result.stderr
    sent, received = result.value
    assert sent == received


CUT = """
import socket
def main(context):
    with socket.create_connection(("four.test", 13), 20) as end:
        said = end.recv(10).decode()
        end.sendall(b"x")
        try:
            return [said, end.recv(10).decode()]
        except OSError as error:
            return [said, type(error).__name__]
"""


def test_a_connection_that_is_cut_outside_is_cut_inside(names: NamesWorld, uid: int) -> None:
    result = names.run("python", CUT, policy=network("four.test:13"), uid=uid)

    assert result.value == ["cut", "ConnectionResetError"], result.stderr


MANY_AT_ONCE = """
import asyncio
async def one(n):
    reader, writer = await asyncio.wait_for(asyncio.open_connection("four.test", 7), 60)
    writer.write(b"%d\\n" % n)
    line = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    return int(line)
async def all_of_them(count):
    return sorted(await asyncio.gather(*map(one, range(count))))
def main(count):
    return asyncio.run(all_of_them(count)) == list(range(count))
"""


def test_many_connections_at_once_all_work(names: NamesWorld, uid: int) -> None:
    result = names.run("python", MANY_AT_ONCE, policy=network("four.test:7"), uid=uid, context=300)

    assert result.value is True, result.stderr


IN_A_BURST = """
import select, socket
def main(address):
    poll, ends = select.epoll(), {}
    for _ in range(900):
        end = socket.socket()
        end.setblocking(False)
        end.connect_ex((address, 7))
        ends[end.fileno()] = end
        poll.register(end, select.EPOLLOUT)
    # The kernel asks again 1, 3 and 7 seconds after the first time; what is not there then, was lost.
    found = []
    while len(found) < 900 and (ready := poll.poll(8)):
        for number, _ in ready:
            poll.unregister(number)
            found.append(ends[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    return len(found), sum(found)
"""


def test_of_a_burst_of_connections_none_is_lost(names: NamesWorld, uid: int) -> None:
    result = names.run("python", IN_A_BURST, policy=network(f"{API}:7"), uid=uid, context=API)

    assert result.value == [900, 0], result.stderr


def test_ranges_of_ports_and_any_port_are_open_and_no_more(names: NamesWorld, uid: int) -> None:
    lists = attempt(
        names,
        uid,
        network("four.test:80-81,8080"),
        *(("connect", "four.test", port) for port in (80, 81, 8080, 443, 8443)),
    )

    assert lists[:3] == ["connected"] * 3
    assert set(lists[3:]) <= BLOCKED


@requires("nft")
def test_a_name_without_ports_is_open_on_any(names: NamesWorld, uid: int) -> None:
    *ports, closed, datagram, other = attempt(
        names,
        uid,
        network("four.test"),
        *(("connect", "four.test", port) for port in (80, 81, 443, 7)),
        ("connect", "four.test", 4),
        ("udp", "four.test", 9999, "any"),
        ("connect", OTHER, 80),
    )

    assert ports == ["connected"] * 4
    assert closed == "ECONNREFUSED"
    assert datagram == f"udp {API} 9999 any"
    assert other in BLOCKED


LONG_LIVED = """
import socket, time

def connect(address):
    end = socket.create_connection((address, 7), 20)
    return lambda text: (end.sendall(text), end.recv(100) == text)[1]

def converse(address):
    end = socket.socket(type=socket.SOCK_DGRAM)
    end.settimeout(20)
    end.connect((address, 9999))
    return lambda text: (end.send(text), end.recv(100).endswith(text))[1]

def main(name):
    address = socket.gethostbyname(name)
    kept = [connect(address), converse(address)]
    before = [each(b"before") for each in kept]
    refused = []
    deadline = time.monotonic() + 60
    for begin in (connect, converse):
        while time.monotonic() < deadline:
            try:
                begin(address)(b"new")
            except OSError as error:
                refused.append(type(error).__name__)
                break
    after = [each(b"after") for each in kept]
    address = socket.gethostbyname(name)
    return [before, refused, after, [connect(address)(b"again"), converse(address)(b"again")]]
"""


def test_connections_and_conversations_outlive_the_record_that_opened_them_and_new_ones_need_a_new_one(
    names: NamesWorld, uid: int
) -> None:
    name = names.name("short.test", A=[API], ttl=1)

    result = names.run(
        "python", LONG_LIVED, policy=network(f"{name}:7,9999"), uid=uid, context=name, sabotage="short-lived"
    )

    assert isinstance(result.value, list), result.stderr
    before, refused, after, again = result.value
    assert before == after == again == [True, True]
    assert refused == ["ConnectionRefusedError"] * 2


def test_a_redirect_to_metadata_leads_nowhere(names: NamesWorld, uid: int) -> None:
    script = """
import urllib.request, urllib.error
def main(context):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open("http://four.test/metadata", timeout=30).read().decode()
    except urllib.error.URLError as error:
        return type(error.reason).__name__
"""
    result = names.run("python", script, policy=network("four.test:80", "metadata.test:80"), uid=uid)

    assert result.value in ("ConnectionRefusedError", "PermissionError", "OSError"), result.stderr
