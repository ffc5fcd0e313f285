"""Scripts that attack what resolves and connects for them: the resolver, the relay, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.names_world import API, DEAD, OTHER, NamesWorld
from tests.primitives import requires
from tests.sandbox.names.attempts import BLOCKED, SCRIPT, egress, network, relays
from tests.sandbox.processes import descendants
from tests.waiting import wait_until

pytestmark = requires("root", "user namespaces", "ip")

POLICY = network("four.test:80,8080", f"{DEAD}:80", "api.test:19")


def attacked(names: NamesWorld, uid: int, attack: str) -> object:
    """What an attack came to, after which what is allowed works and what is not does not."""
    script = SCRIPT.replace("def main(", "def try_all(") + attack
    script += f"""
def main(context):
    outcome = attack()
    after = try_all([["web", "four.test"], ["web", "{OTHER}"], ["look", "unlisted.test"]])
    return [outcome, after]
"""
    result = names.run("python", script, policy=POLICY, uid=uid)
    assert result.exit_code == 0, result.stderr
    outcome, (allowed, refused, unlisted) = result.value
    assert allowed == f"reached {API} 80 four.test"
    assert refused in BLOCKED
    assert unlisted.startswith("EAI_")
    return outcome


RUBBISH = """
import os, random
def attack():
    random.seed(7)
    with socket.socket(type=socket.SOCK_DGRAM) as end:
        for n in range(500):
            data = random.randbytes(random.randrange(600))
            # Some look like questions: compressed in a circle, with many of them, or with none.
            if n % 2:
                question = b"\\3api\\xc0\\x0c\\0\\1\\0\\1"
                data = data[:2] + b"\\1\\0\\0" + bytes([n % 5]) + bytes(6) + question + data[:n % 40]
            end.sendto(data, ("127.0.0.1", 53))
    kept = []
    for n in range(50):
        end = socket.create_connection(("127.0.0.1", 53), 20)
        end.sendall([b"\\xff\\xff", b"\\0", b"\\0\\0", b"\\0\\5abcde", random.randbytes(5000)][n % 5])
        kept.append(end)
    for end in kept:
        end.close()
    return "tried"
"""


def test_rubbish_for_the_resolver_opens_nothing_and_breaks_nothing(names: NamesWorld, uid: int) -> None:
    assert attacked(names, uid, RUBBISH) == "tried"


HELD = """
def attack():
    global kept
    kept = [socket.create_connection(("127.0.0.1", 53), 20) for _ in range(300)]
    return len(kept)
"""


def test_idle_connections_to_the_resolver_keep_nobody_from_it(names: NamesWorld, uid: int) -> None:
    assert attacked(names, uid, HELD) == 300


ODD_NAMES = """
def ask_for(labels):
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\\0"
    query = b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + name + b"\\0\\1\\0\\1"
    answer = bytes.fromhex(ask("127.0.0.1", 53, "udp", query.hex()))
    return answer[3] & 15, answer[7]
def attack():
    return [
        ask_for(labels)
        for labels in (
            [b"four.test"], [b"four", b"test\\0"], [b"four\\0", b"test"], [b"four\\0.evil", b"test"], [b"*", b"test"],
            [b"unlisted", b"test#.four", b"test"], [b"127.0.0.1"], [b"2130706433"], [b"localhost"],
        )
    ]
"""


def test_odd_names_are_refused(names: NamesWorld, uid: int) -> None:
    assert attacked(names, uid, ODD_NAMES) == [[5, 0]] * 9


POWERS = """
def attempt(make):
    try:
        make()
        return "done"
    except OSError as error:
        return told(error)
def mark():
    with socket.socket() as end:
        end.setsockopt(socket.SOL_SOCKET, 36, 1)
def transparent():
    with socket.socket() as end:
        end.setsockopt(socket.IPPROTO_IP, 19, 1)
def attack():
    return [
        attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)),
        attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)),
        attempt(lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)),
        attempt(mark),
        attempt(transparent),
        attempt(lambda: socket.create_server(("127.0.0.1", 53))),
    ]
"""


def test_nothing_that_the_relay_does_can_be_done_by_the_script(names: NamesWorld, uid: int) -> None:
    outcome = attacked(names, uid, POWERS)

    assert isinstance(outcome, list)
    assert set(outcome) <= {"EPERM", "EACCES", "EAFNOSUPPORT", "EADDRINUSE"}


CHANGES = """
import subprocess
def attack():
    done = []
    for command in (
        "ip route flush table all", "ip route add default dev lo", "ip rule add from all lookup main",
        "ip link set lo down", "ip link add rf0 type dummy", "ip address add 10.9.0.2/32 dev lo", "nft flush ruleset",
        "nft add table inet mine", "echo 1 >/proc/sys/net/ipv4/ip_forward",
        "echo '0 0' >/proc/sys/net/ipv4/ping_group_range", "echo nameserver 10.9.0.2 >/etc/resolv.conf",
        "echo 10.9.0.2 four.test >>/etc/hosts",
    ):
        if subprocess.run(["sh", "-c", command], capture_output=True).returncode == 0:
            done.append(command)
    return done
"""


def test_the_runs_network_cannot_be_changed_from_inside(names: NamesWorld, uid: int) -> None:
    assert attacked(names, uid, CHANGES) == []


STORM = """
def attack(dead):
    global kept
    kept = []
    for n in range(3000):
        end = socket.socket()
        end.setblocking(False)
        end.connect_ex((dead, 80) if n % 2 else (f"10.9.3.{n % 250}", 80))
        kept.append(end)
        if len(kept) > 500:
            kept.pop(0).close()

def main(dead):
    attack(dead)
    return try_all([["web", "four.test"]])
"""


def test_a_storm_of_connections_to_dead_hosts_is_survived_and_told(names: NamesWorld, uid: int) -> None:
    script = SCRIPT.replace("def main(", "def try_all(") + STORM

    result = names.run("python", script, policy=POLICY, uid=uid, context=DEAD)

    assert result.value == [f"reached {API} 80 four.test"], result.stderr
    record = egress(result)
    assert len(record["refused"]) == 125
    [dead] = [each for each in record["used"] if each["address"] == DEAD]
    assert (dead["failed"], dead["connections"]) == ("timed out", 0)
    assert dead["count"] == 1500


SLOW_READER = """
import time
def attack():
    global kept
    kept = socket.create_connection(("api.test", 19), 20)
    address = kept.getpeername()[0]
    socket.gethostbyname("four.test")
    counts = []
    while len(counts) < 20 or counts[-1] != counts[-20]:
        counts.append(int(web_flooded()))
        time.sleep(0.01)
    return counts[-1] - int(counts[0])
def web_flooded():
    with socket.create_connection(("four.test", 80), 20) as end:
        end.sendall(b"GET /flooded HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        return end.recv(65536).decode().partition("\\r\\n\\r\\n")[2]
"""


def test_what_nobody_reads_is_not_gathered(names: NamesWorld, uid: int) -> None:
    flooded = attacked(names, uid, SLOW_READER)

    assert isinstance(flooded, int)
    assert flooded < 64 * 1024**2


def test_a_relay_has_no_rights_and_can_gain_none(names: NamesWorld, uid: int) -> None:
    policy = network("four.test:80", "four.test:7")
    # From then on, a sandbox with its relay waits.
    for _ in range(3):
        names.run("shell", "true", policy=policy, uid=uid)

    supervisor = names.supervisor(uid).pid
    wait_until(
        lambda: (found := relays(supervisor)) and all(map(_is_powerless, found)),
        "that all relays are powerless",
    )


def _is_powerless(pid: int) -> bool:
    """Whether a process is nobody's but an ordinary user's; a relay is not before it has begun."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True
    fields = {line.partition(":")[0]: line.split()[1:] for line in lines}
    capabilities = {each for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") for each in fields[name]}
    is_root = "0" in (*fields["Uid"], *fields["Gid"])
    return not is_root and capabilities == {"0" * 16} and fields["NoNewPrivs"] == ["1"]


@pytest.mark.parametrize("script", ["sleep 1000 & curl -sS http://four.test/ >/dev/null; true", "kill -9 $$"])
def test_nothing_of_a_relay_outlives_its_run(names: NamesWorld, uid: int, script: str) -> None:
    for _ in range(4):
        names.run("shell", script, policy=POLICY, uid=uid)
    supervisor = names.supervisor(uid).pid
    # With the sandboxes that wait, and one that may be in the making.
    before = len(descendants(supervisor))

    for _ in range(12):
        names.run("shell", script, policy=POLICY, uid=uid)

    wait_until(lambda: len(descendants(supervisor)) < before + 12, "that no relay of an ended run remains")
