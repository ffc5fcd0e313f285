"""Scripts that try to reach what the policy does not name. Every refusal is shown to be the filter's own doing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox.policy import MOST_ENTRIES
from ringfence.scripts import RunResult

from tests import world as worlds
from tests.primitives import requires
from tests.world import ALLOWED4, ALLOWED6, METADATA, OTHER4, OTHER6, World

STACK = "relay"
"""What is taken away from a supervisor whose runs are to have a link by a userspace stack."""

pytestmark = [
    requires("root", "user namespaces", "slirp4netns", "nft", "ip"),
    # Each claim is shown by either supervisor, with the one link or the other; its rows in turn.
    pytest.mark.in_turn("uid", "link"),
]

ALLOWLIST = {"mode": "allowlist", "allow": [f"{ALLOWED4}:80", f"[{ALLOWED6}]:80"]}
UNRESTRICTED = {"mode": "unrestricted"}
WITHOUT_BLOCK = {"mode": "unrestricted", "denyLinkLocalAndMetadata": False}

GATEWAY, RESOLVER = "198.19.254.2", "198.19.254.3"

CONNECT = """
import errno, socket
from concurrent.futures import ThreadPoolExecutor

def attempt(host, port, kind):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as end:
        end.settimeout(3)
        try:
            end.connect((host, port))
            if kind == "udp":
                end.send(b"?")
                return end.recv(100).decode()
            data = b""
            while more := end.recv(1000):
                data += more
            return data.decode()
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))

def main(targets):
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda target: attempt(*target), targets))
"""

REFUSED = {"EHOSTUNREACH", "EACCES", "ENETUNREACH", "EPERM", "ECONNREFUSED"}


@pytest.fixture(scope="module", name="world")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with worlds.world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(params=["", STACK], ids=["relay", "stack"])
def link(request: pytest.FixtureRequest) -> str:
    """What is taken away so that a run has its link by the one or by the other."""
    chosen: str = request.param
    return chosen


@pytest.fixture(params=worlds.SUPERVISORS, ids=["root", "unprivileged"])
def uid(request: pytest.FixtureRequest) -> int:
    """The supervisor's uid: both supervisors that are supported."""
    chosen: int = request.param
    worlds.need_supervisor(chosen)
    return chosen


def connect(
    world: World, network: dict[str, Any], *targets: tuple[str, int, str], uid: int = 0, **more: Any
) -> list[str]:
    """What each attempt came to, in one run that was enforced."""
    result = world.run("python", CONNECT, policy={"network": network}, uid=uid, context=list(targets), **more)
    assert result.exit_code == 0, (result.stderr, result.sandbox.downgrades)
    assert result.sandbox.enforced.network
    value: list[str] = result.value
    return value


def reached(host: str, port: int) -> str:
    return f"HTTP/1.0 200 OK\r\n\r\nreached {host} {port}\n"


def test_what_is_listed_is_reached_and_nothing_beside_it(world: World, uid: int, link: str) -> None:
    allowed = ((ALLOWED4, 80, "tcp"), (ALLOWED6, 80, "tcp"), (ALLOWED4, 80, "udp"), (ALLOWED6, 80, "udp"))
    beside = [(ALLOWED4, 81), (OTHER4, 80), (ALLOWED6, 81), (OTHER6, 80)]
    refused = [(host, port, kind) for host, port in beside for kind in ("tcp", "udp")]

    outcomes = connect(world, ALLOWLIST, *allowed, *refused, uid=uid, sabotage=link)

    assert outcomes[:2] == [reached(ALLOWED4, 80), reached(ALLOWED6, 80)]
    assert outcomes[2:4] == ["reached by udp 80\n"] * 2
    assert set(outcomes[4:]) <= REFUSED


def test_many_ports_are_reached_and_those_beside_them_are_not(world: World, uid: int, link: str) -> None:
    network = {"mode": "allowlist", "allow": [f"{ALLOWED4}:{port}" for port in range(80, 1680, 2)]}
    targets = [(ALLOWED4, port, kind) for port in (80, 81) for kind in ("tcp", "udp")]

    outcomes = connect(world, network, *targets, uid=uid, sabotage=link)

    assert outcomes[:2] == [reached(ALLOWED4, 80), "reached by udp 80\n"]
    assert set(outcomes[2:]) <= REFUSED


def test_an_allowlist_as_long_as_may_be_written_lets_through_what_it_names(
    world: World, uid: int, link: str
) -> None:
    # Each network with a port of its own, which takes the most to load.
    many = [f"11.{n >> 8}.{n & 255}.0/30:{1 + n}" for n in range(MOST_ENTRIES - 2)]
    network = {"mode": "allowlist", "allow": [*many, f"{ALLOWED4}:80", f"[{ALLOWED6}]:80"]}
    targets = [(host, port, "tcp") for host in (ALLOWED4, ALLOWED6, OTHER4, OTHER6) for port in (80, 81)]

    outcomes = connect(world, network, *targets, ("169.254.169.254", 80, "tcp"), uid=uid, sabotage=link)

    assert outcomes[0] == reached(ALLOWED4, 80)
    assert outcomes[2] == reached(ALLOWED6, 80)
    assert set(outcomes[1:2] + outcomes[3:]) <= REFUSED


def test_without_the_refusals_the_same_is_reached(world: World, link: str) -> None:
    beside = [(ALLOWED4, 81, "tcp"), (OTHER4, 80, "tcp"), (ALLOWED6, 81, "tcp"), (OTHER6, 80, "tcp")]

    outcomes = connect(world, ALLOWLIST, *beside, sabotage=f"{link} refusals")

    assert outcomes == [reached(host, port) for host, port, _ in beside]


def test_unrestricted_reaches_everything_but_metadata(world: World, uid: int, link: str) -> None:
    metadata = [(host, 80, kind) for host in METADATA for kind in ("tcp", "udp")]

    outcomes = connect(
        world, UNRESTRICTED, (OTHER4, 81, "tcp"), (OTHER6, 81, "tcp"), *metadata, uid=uid, sabotage=link
    )

    assert outcomes[:2] == [reached(OTHER4, 81), reached(OTHER6, 81)]
    assert set(outcomes[2:]) <= REFUSED


def test_metadata_is_there_to_be_reached_when_the_policy_does_not_block_it(world: World, link: str) -> None:
    metadata = [(host, 80, "tcp") for host in METADATA]

    assert connect(world, WITHOUT_BLOCK, *metadata, sabotage=link) == [reached(host, 80) for host in METADATA]


def test_a_listed_metadata_address_stays_blocked_and_the_report_says_so(world: World) -> None:
    network = {"mode": "allowlist", "allow": ["169.254.169.254:80", f"{ALLOWED4}:80"]}

    result = world.run(
        "python", CONNECT, policy={"network": network}, context=[("169.254.169.254", 80, "tcp")]
    )

    assert result.value in [[refusal] for refusal in REFUSED]
    assert any("169.254.169.254:80 stays blocked" in note.note for note in result.sandbox.notes)


def test_a_redirect_to_metadata_leads_nowhere(world: World, uid: int, link: str) -> None:
    script = f"""
import urllib.request, urllib.error
def main(context):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
    try:
        return opener.open("http://{ALLOWED4}:8080/", timeout=30).read().decode()
    except urllib.error.URLError as error:
        return type(error.reason).__name__ + ": " + str(error.reason)
"""
    network = {"mode": "allowlist", "allow": [f"{ALLOWED4}:8080", "169.254.0.0/16"]}

    filtered = world.run("python", script, policy={"network": network}, uid=uid, sabotage=link)
    unfiltered = world.run("python", script, policy={"network": network}, sabotage=f"{link} refusals")

    assert ("refused" if link == "" else "No route to host") in str(filtered.value)
    assert unfiltered.value == "reached 169.254.169.254 80\n"


def test_an_allowed_host_is_no_way_station(world: World, uid: int, link: str) -> None:
    """A routing header (RFC 8754) names the real destination, and the packet's address is an allowed one."""
    script = f"""
import errno, socket
def main(context):
    hops = [socket.inet_pton(socket.AF_INET6, hop) for hop in ("{OTHER6}", "{ALLOWED6}")]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as end:
        end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RTHDR, bytes([0, 4, 4, 1, 1, 0, 0, 0]) + b"".join(hops))
        try:
            end.sendto(b"?", ("{OTHER6}", 80))
            return "sent"
        except OSError as error:
            return errno.errorcode[error.errno]
"""
    filtered = world.run("python", script, policy={"network": ALLOWLIST}, uid=uid, sabotage=link)
    if link == "":
        # It has left the script, and nobody has taken it further.
        assert filtered.egress is not None
        assert filtered.egress.used == ()
        return
    unfiltered = world.run(
        "python", script, policy={"network": ALLOWLIST}, uid=uid, sabotage=f"{link} refusals"
    )
    assert filtered.value in REFUSED, filtered.stderr
    assert unfiltered.value == "sent"


def test_a_sandbox_that_waited_is_filtered_like_any_other(world: World, uid: int, link: str) -> None:
    targets = [(ALLOWED4, 80, "tcp"), (ALLOWED6, 80, "tcp"), (OTHER4, 80, "tcp"), (ALLOWED4, 81, "udp")]
    policy = {"network": ALLOWLIST}

    runs = [
        world.run("python", CONNECT, policy=policy, uid=uid, context=targets, sabotage=link) for _ in range(4)
    ]

    assert runs[-1].timing is not None
    assert runs[-1].timing.warm
    for run in runs:
        assert isinstance(run.value, list)
        assert run.value[:2] == [reached(ALLOWED4, 80), reached(ALLOWED6, 80)]
        assert set(run.value[2:]) <= REFUSED


def test_the_hosts_loopback_is_not_behind_the_gateway(world: World, uid: int, link: str) -> None:
    """The world's hosts listen on its loopback too, and the gateway would be just that."""
    targets = [(host, port, "tcp") for host in (GATEWAY, RESOLVER, "fd00::2") for port in (80, 81)]

    outcomes = connect(world, UNRESTRICTED, *targets, uid=uid, sabotage=link)

    # A relay has no gateway: these are addresses of somebody else's, where nobody is.
    assert set(outcomes) <= REFUSED | ({"timeout"} if link == "" else set())


def test_filter_and_stack_each_keep_the_hosts_loopback_shut_without_the_other(world: World) -> None:
    gateway = (GATEWAY, 81, "tcp")

    assert set(connect(world, UNRESTRICTED, gateway, sabotage=f"{STACK} refusals")) <= REFUSED
    assert set(connect(world, UNRESTRICTED, gateway, sabotage=f"{STACK} host-loopback")) <= REFUSED
    both_gone = connect(world, UNRESTRICTED, gateway, sabotage=f"{STACK} refusals host-loopback")
    assert both_gone == [reached("127.0.0.1", 81)]


@requires("pasta")
def test_pasta_gives_and_withholds_just_what_slirp4netns_does(world: World, uid: int) -> None:
    beside = [(ALLOWED4, 81, "tcp"), (OTHER4, 80, "udp"), (OTHER6, 80, "tcp"), ("169.254.169.254", 80, "tcp")]
    only = f"{STACK} slirp4netns"

    listed = connect(
        world, ALLOWLIST, (ALLOWED4, 80, "tcp"), (ALLOWED6, 80, "udp"), *beside, uid=uid, sabotage=only
    )
    everything = connect(
        world, UNRESTRICTED, (OTHER6, 81, "tcp"), *beside[3:], (GATEWAY, 81, "tcp"), uid=uid, sabotage=only
    )

    assert listed[:2] == [reached(ALLOWED4, 80), "reached by udp 80\n"]
    assert everything[0] == reached(OTHER6, 81)
    assert set(listed[2:] + everything[1:]) <= REFUSED


def test_the_sandboxs_own_loopback_works_and_is_not_the_hosts(world: World, uid: int, link: str) -> None:
    script = """
import socket
def main(context):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()):
            own = True
    try:
        socket.create_connection(("127.0.0.1", 80), timeout=30)
    except ConnectionRefusedError:
        return own
"""
    result = world.run("python", script, policy={"network": UNRESTRICTED}, uid=uid, sabotage=link)

    assert result.value is True, result.stderr


def test_dns_works_without_an_allowlist_and_goes_to_the_hosts_resolver(world: World, uid: int) -> None:
    named = world.run(
        "shell", "cat /etc/resolv.conf", policy={"network": UNRESTRICTED}, uid=uid, sabotage=STACK
    )

    assert named.stdout == f"nameserver {RESOLVER}\n"
    assert connect(world, UNRESTRICTED, (RESOLVER, 53, "udp"), uid=uid, sabotage=STACK) == [
        "reached by udp 53\n"
    ]


RESOLVE = """
import socket
def main(name):
    try:
        return sorted({address[4][0] for address in socket.getaddrinfo(name, 80)})
    except socket.gaierror as error:
        return type(error).__name__
"""


@pytest.mark.parametrize(
    ("network", "addresses"),
    [
        pytest.param(UNRESTRICTED, [ALLOWED4], id="unrestricted"),
        pytest.param({"allow": [f"{ALLOWED4}:80", f"{OTHER4}:53"]}, [ALLOWED4], id="listed resolver"),
        pytest.param(ALLOWLIST, "gaierror", id="no resolver listed"),
        pytest.param({"mode": "deny"}, "gaierror", id="deny"),
    ],
)
def test_names_are_resolved_only_as_the_policy_lets_them_be(
    world: World, uid: int, link: str, network: dict[str, Any], addresses: object
) -> None:
    result = world.run(
        "python", RESOLVE, policy={"network": network}, uid=uid, context="service.test", sabotage=link
    )

    assert result.value == addresses, result.stderr


def test_dns_does_not_work_with_an_allowlist_that_names_no_resolver(
    world: World, uid: int, link: str
) -> None:
    result = world.run("shell", "cat /etc/resolv.conf", policy={"network": ALLOWLIST}, uid=uid, sabotage=link)

    assert result.stdout == ""
    assert any("has no resolver" in note.note for note in result.sandbox.notes)
    targets = ((RESOLVER, 53, "udp"), (RESOLVER, 53, "tcp"))
    assert set(connect(world, ALLOWLIST, *targets, uid=uid, sabotage=link)) <= REFUSED


def test_macvlan_gives_and_withholds_just_what_a_userspace_stack_does(world: World) -> None:
    lan = [("10.7.0.1", 80, "tcp"), ("2001:db8:7::1", 80, "tcp")]
    beside = [(ALLOWED4, 81, "tcp"), (OTHER4, 80, "udp"), (OTHER6, 80, "tcp"), *lan]
    metadata = [(host, 80, "tcp") for host in METADATA]

    listed = connect(
        world, ALLOWLIST, (ALLOWED4, 80, "tcp"), (ALLOWED6, 80, "udp"), *beside, setting=worlds.LAN
    )
    everything = connect(world, UNRESTRICTED, *lan, (OTHER6, 81, "tcp"), *metadata, setting=worlds.LAN)

    assert listed[:2] == [reached(ALLOWED4, 80), "reached by udp 80\n"]
    assert everything[:3] == [reached(host, port) for host, port, _ in (*lan, (OTHER6, 81, "tcp"))]
    assert set(listed[2:] + everything[3:]) <= REFUSED


def test_without_the_refusals_metadata_is_reached_through_macvlan(world: World) -> None:
    metadata = [(host, 80, "tcp") for host in METADATA]

    outcomes = connect(world, UNRESTRICTED, *metadata, setting=worlds.LAN, sabotage="refusals")

    assert outcomes == [reached(host, 80) for host in METADATA]


CHANGE_THE_FILTER = """
ringfence_table() { nft list ruleset 2>&1 | grep -c ringfence; }
nft flush ruleset 2>/dev/null && echo flushed
nft delete table inet ringfence 2>/dev/null && echo deleted
nft 'add rule inet ringfence output accept' 2>/dev/null && echo added
ip link set egress0 down 2>/dev/null && echo down
ip route add 10.9.0.2 dev egress0 2>/dev/null && echo routed
ip address add 10.0.0.9/24 dev egress0 2>/dev/null && echo addressed
ip link add rf0 type veth 2>/dev/null && echo linked
for command in nft ip; do
  for options in --user '--user --map-root-user' '--user --net' '--net' '--mount'; do
    unshare $options $command link 2>/dev/null >/dev/null && echo "unshared $options"
  done
done
nsenter --net=/proc/self/ns/net true 2>/dev/null && echo entered
nsenter --user=/proc/self/ns/user true 2>/dev/null && echo entered
echo 1 2>/dev/null >/proc/sys/net/ipv4/ip_forward && echo forwarding
grep -E '^Cap(Inh|Prm|Eff|Amb|Bnd)' /proc/self/status | grep -v 0000000000000000 && echo capable
echo tried
"""


@pytest.mark.parametrize(
    "sabotage",
    ["", "syscalls", STACK, f"{STACK} syscalls"],
    ids=["filtered", "without the syscall filter", "stack", "stack without the syscall filter"],
)
def test_the_filter_and_the_link_cannot_be_changed_from_inside(world: World, uid: int, sabotage: str) -> None:
    """By capability alone, too: each layer holds without the other."""
    result = world.run("shell", CHANGE_THE_FILTER, policy={"network": ALLOWLIST}, uid=uid, sabotage=sabotage)

    lines = [line for line in result.stdout.splitlines() if not line.startswith("unshared --user")]
    assert lines == ["tried"]
    if "syscalls" not in sabotage:
        assert result.stdout == "tried\n"


RAW = """
import socket
def main(context):
    outcomes = {}
    for name, family, kind, protocol in (
        ("raw", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
        ("raw icmp", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        ("raw v6", socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        ("packet", socket.AF_PACKET, socket.SOCK_RAW, 0x0300),
        ("cooked packet", socket.AF_PACKET, socket.SOCK_DGRAM, 0x0300),
        ("vsock", socket.AF_VSOCK, socket.SOCK_STREAM, 0),
        ("netfilter", socket.AF_NETLINK, socket.SOCK_RAW, 12),
    ):
        try:
            socket.socket(family, kind, protocol).close()
            outcomes[name] = "opened"
        except OSError as error:
            outcomes[name] = "refused"
    return outcomes
"""


def test_raw_and_packet_sockets_are_refused(world: World, uid: int) -> None:
    result = world.run("python", RAW, policy={"network": UNRESTRICTED}, uid=uid)

    assert isinstance(result.value, dict)
    assert set(result.value.values()) == {"refused"}


def test_without_the_syscall_filter_raw_sockets_are_still_refused(world: World) -> None:
    result = world.run("python", RAW, policy={"network": UNRESTRICTED}, sabotage="syscalls")

    assert isinstance(result.value, dict)
    assert {name for name, outcome in result.value.items() if outcome == "opened"} <= {"vsock", "netfilter"}


ABSTRACT = """
import socket
def main(context):
    with socket.socket(socket.AF_UNIX) as end:
        try:
            end.connect("\\0ringfence-test")
            return end.recv(100).decode()
        except ConnectionRefusedError:
            return "refused"
"""


@pytest.mark.parametrize("network", [{"mode": "deny"}, ALLOWLIST, UNRESTRICTED], ids=lambda n: n["mode"])
def test_the_hosts_abstract_sockets_are_out_of_reach(world: World, uid: int, network: dict[str, Any]) -> None:
    assert world.run("python", ABSTRACT, policy={"network": network}, uid=uid).value == "refused"


def test_the_abstract_socket_is_there_to_be_reached(world: World) -> None:
    assert world.plain(ABSTRACT + "print(main(None), end='')") == "reached by an abstract socket\n"


@pytest.mark.parametrize("sabotage", [f"{STACK} busy-stack", "busy-machine"])
def test_what_was_used_up_for_a_moment_puts_no_run_into_the_hosts_network(
    tmp_path: Path, uid: int, sabotage: str
) -> None:
    degrade = {"onUnavailable": "degrade", "network": ALLOWLIST}
    targets = [(ALLOWED4, 80, "tcp"), (OTHER4, 80, "tcp")]
    with worlds.world(tmp_path) as world:
        results: list[RunResult] = []
        while not results or results[-1].refused:
            assert len(results) < 5
            results.append(
                world.run("python", CONNECT, policy=degrade, uid=uid, context=targets, sabotage=sabotage)
            )

    *refused, last = results
    assert refused
    for result in refused:
        assert result.value is None
        assert any(lack.reason.endswith("; try again") for lack in result.sandbox.downgrades)
    assert last.sandbox.enforced.network
    assert last.sandbox.downgrades == ()
    assert last.value[0] == reached(ALLOWED4, 80)
    assert last.value[1] in REFUSED


def test_a_host_that_keeps_its_tun_device_for_root_still_serves_a_root_supervisor(tmp_path: Path) -> None:
    with worlds.world(tmp_path, tun_mode="0600") as world:
        assert connect(world, ALLOWLIST, (ALLOWED4, 80, "tcp"), sabotage=STACK) == [reached(ALLOWED4, 80)]


def test_a_supervisor_that_cannot_open_the_tun_device_refuses_with_that_very_reason(tmp_path: Path) -> None:
    worlds.need_supervisor(worlds.SUPERVISORS[1])
    with worlds.world(tmp_path, tun_mode="0600") as world:
        unprivileged = worlds.SUPERVISORS[1]
        assert connect(world, ALLOWLIST, (ALLOWED4, 80, "tcp"), uid=unprivileged) == [reached(ALLOWED4, 80)]
        result = world.run(
            "shell", "echo ran", policy={"network": ALLOWLIST}, uid=unprivileged, sabotage=STACK
        )

    assert result.exit_code == -1
    assert result.stdout == ""
    (downgrade,) = result.sandbox.downgrades
    assert downgrade.layer == "network"
    assert "uid 65532 may not open /dev/net/tun" in downgrade.reason
    assert not result.sandbox.enforced.network


def test_nothing_of_the_plumbing_is_left_after_a_run(world: World) -> None:
    def stacks() -> set[str]:
        found = set()
        for status in Path("/proc").glob("[0-9]*/comm"):
            try:
                if status.read_text().strip() in ("slirp4netns", "pasta") and _is_in(status.parent, world):
                    found.add(status.parent.name)
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    before = stacks()
    result: RunResult = world.run(
        "shell", "sleep 60", policy={"network": ALLOWLIST}, timeout_ms=300, sabotage=STACK
    )

    assert result.timed_out
    assert stacks() <= before


def _is_in(process: Path, world: World) -> bool:
    return (process / "ns/net").stat().st_ino == Path(f"/proc/{world.pid}/ns/net").stat().st_ino
