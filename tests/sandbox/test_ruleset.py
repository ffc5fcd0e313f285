"""The packet filter: as a value, and as the kernel understood its text."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringfence.sandbox.egress.link import nftables
from ringfence.sandbox.egress.link import ruleset as rulesets
from ringfence.sandbox.egress.link.gate import Rules, load
from ringfence.sandbox.egress.link.ruleset import (
    Everything,
    Link,
    Listed,
    Packet,
    Protocol,
    Reach,
    Rule,
    Ruleset,
    Verdict,
    build_ruleset,
    overlaps,
)
from ringfence.sandbox.policy import model as policy
from ringfence.sandbox.policy.addresses import Address, AllowEntry, Network, PortRange
from ringfence.sandbox.policy.blocked import blocked_ranges
from ringfence.sandbox.policy.embedded import Pattern

from tests.primitives import PROGRAMS, requires
from tests.sandbox.test_addresses import entries

LINK = Link(
    closed=(IPv4Network("198.19.254.0/24"), IPv6Network("fd00::/64")),
    on_link=(IPv6Network("fd00::/64"),),
    resolver=IPv4Address("198.19.254.3"),
)


def listed(*texts: str) -> Listed:
    return Listed(tuple(AllowEntry.parse(text) for text in texts))


def ruleset(reach: Reach, *, deny: bool = True, link: Link = LINK, pairs: bool = True) -> Ruleset:
    return build_ruleset(reach, deny_link_local_and_metadata=deny, link=link, pairs=pairs)


def tcp(destination: str, port: int) -> Packet:
    return Packet(ip_address(destination), Protocol.TCP, port)


def _listed(found: Sequence[AllowEntry]) -> Listed:
    return Listed(tuple(found))


@st.composite
def crowded(draw: st.DrawFn) -> AllowEntry:
    """An entry of a few networks that hold one another, on a few ports that overlap."""
    prefix = draw(st.integers(8, 16))
    second = draw(st.sampled_from([0, 1, 255]))
    network = ip_network(draw(st.sampled_from([f"10.{second}.0.0/16", f"20{second:02x}::/16"])))
    network = network.supernet(new_prefix=prefix)
    first = draw(st.integers(79, 84))
    return AllowEntry(network, draw(st.none() | st.just(PortRange(first, first + draw(st.integers(0, 2))))))


reaches = st.one_of(
    st.just(Everything()),
    st.lists(entries, max_size=6).map(_listed),
    st.lists(crowded(), max_size=24).map(_listed),
)


@contextmanager
def few_in_a_rule() -> Iterator[None]:
    """Everything that is done for long lists, done for short ones too."""
    with ExitStack() as patched:
        patched.enter_context(patch.object(rulesets, "MOST_IN_A_RULE", 2))
        patched.enter_context(patch.object(rulesets, "MOST_PORT_RULES", 1))
        patched.enter_context(patch.object(nftables, "LARGEST_TRANSACTION", 4000))
        yield


links = st.sampled_from([Link(), LINK, Link(on_link=(IPv6Network("2001:db8:1::/64"),))])


@st.composite
def packets(draw: st.DrawFn, reach: Reach) -> Packet:
    """A packet to anywhere, but mostly to the edges of what the ruleset speaks of."""
    blocked = [each.where for each in blocked_ranges(True)]
    patterns = [each for each in blocked if isinstance(each, Pattern)]
    networks: list[Network] = [each for each in blocked if not isinstance(each, Pattern)]
    networks += [*LINK.closed, ip_network("198.19.254.3/32")]
    ports = [53, 80]
    if isinstance(reach, Listed):
        networks += [entry.network for entry in reach.entries] * 10
        ports += [port for e in reach.entries if e.ports for port in (e.ports.first - 1, e.ports.last)]
    network = draw(st.sampled_from(networks))
    edge = draw(st.sampled_from([network.network_address, network.broadcast_address]))
    highest = 2**network.max_prefixlen - 1
    number = min(max(int(edge) + draw(st.integers(-1, 1)), 0), highest)
    address: Address = IPv4Address(number) if network.version == 4 else IPv6Address(number)
    if address.version == 6 and draw(st.booleans()):
        pattern = draw(st.sampled_from(patterns))
        inside = pattern.value | draw(st.sampled_from([0, 2**128 - 1, number])) & ~pattern.mask
        address = IPv6Address(inside ^ draw(st.sampled_from([0, pattern.mask & -pattern.mask])))
    protocol = draw(st.sampled_from(list(Protocol)))
    port = (
        min(max(draw(st.sampled_from(ports)), 0), 65535) if protocol in (Protocol.TCP, Protocol.UDP) else None
    )
    return Packet(address, protocol, port, routed=draw(st.integers(0, 9)) == 0)


def is_asked_for(packet: Packet, reach: Reach, deny: bool, link: Link) -> bool:
    """The policy's own words, said once more and naively."""
    to, port = packet.destination, packet.port
    if packet.routed:
        return False
    if packet.protocol is Protocol.NEIGHBOUR_DISCOVERY:
        around = (ip_network("fe80::/10"), ip_network("ff02::/16"), *link.on_link)
        if any(to in network for network in around):
            return True
    if to == link.resolver and port == 53:
        return True
    if any(to in blocked.where for blocked in blocked_ranges(deny)) or any(to in n for n in link.closed):
        return False
    if isinstance(reach, Everything):
        return True
    return any(
        to in entry.network and (entry.ports is None or (port is not None and port in entry.ports))
        for entry in reach.entries
    )


@given(st.data(), reaches, st.booleans(), links)
def test_a_packet_gets_out_exactly_if_the_policy_asks_for_it(
    data: st.DataObject, reach: Reach, deny: bool, link: Link
) -> None:
    packet = data.draw(packets(reach))

    accepted = ruleset(reach, deny=deny, link=link).judge(packet) is Verdict.ACCEPT

    assert accepted == is_asked_for(packet, reach, deny, link)


@given(st.data(), reaches, st.booleans(), links, st.booleans())
def test_a_long_list_is_judged_as_a_short_one_is(
    data: st.DataObject, reach: Reach, deny: bool, link: Link, pairs: bool
) -> None:
    packet = data.draw(packets(reach))

    with few_in_a_rule():
        accepted = ruleset(reach, deny=deny, link=link, pairs=pairs).judge(packet) is Verdict.ACCEPT

    assert accepted == is_asked_for(packet, reach, deny, link)


@given(st.data(), reaches, st.booleans(), links)
def test_less_gets_out_while_only_a_part_of_the_rules_is_loaded(
    data: st.DataObject, reach: Reach, deny: bool, link: Link
) -> None:
    packet = data.draw(packets(reach))
    with few_in_a_rule():
        whole = ruleset(reach, deny=deny, link=link)
    part = Ruleset(whole.output[: data.draw(st.integers(0, len(whole.output)))])

    if whole.judge(packet) is Verdict.REFUSE:
        assert part.judge(packet) is Verdict.REFUSE


@given(st.data(), st.lists(entries, max_size=5), st.booleans())
def test_taking_an_entry_away_never_opens_anything(
    data: st.DataObject, found: list[AllowEntry], deny: bool
) -> None:
    packet = data.draw(packets(Listed(tuple(found))))

    if ruleset(Listed(tuple(found)), deny=deny).judge(packet) is Verdict.REFUSE:
        assert ruleset(Listed(tuple(found[1:])), deny=True).judge(packet) is Verdict.REFUSE


@pytest.mark.parametrize(
    "destination",
    [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fe80::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::a9fe:a9fe",
        "::ffff:a9fe:a9fe",
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:7f00:1",
        "64:ff9b::7f00:1",
        "198.19.254.2",
        "fd00::2",
        "224.0.0.251",
        "ff02::fb",
    ],
)
def test_metadata_loopback_and_the_gateway_are_refused_under_every_reach(destination: str) -> None:
    everywhere = listed("0.0.0.0/0", "::/0")
    for reach in (Everything(), everywhere):
        assert ruleset(reach).judge(tcp(destination, 80)) is Verdict.REFUSE
    assert ruleset(Everything()).judge(tcp("203.0.113.1", 80)) is Verdict.ACCEPT


def test_metadata_can_be_reached_only_if_the_policy_drops_the_block() -> None:
    reach = listed("169.254.169.254:80")

    assert ruleset(reach).judge(tcp("169.254.169.254", 80)) is Verdict.REFUSE
    assert ruleset(reach, deny=False).judge(tcp("169.254.169.254", 80)) is Verdict.ACCEPT
    assert ruleset(reach, deny=False).judge(tcp("169.254.169.254", 81)) is Verdict.REFUSE


@pytest.mark.parametrize("destination", ["127.0.0.1", "198.19.254.2", "fd00::2", "::ffff:7f00:1"])
def test_the_hosts_loopback_is_refused_even_without_the_block(destination: str) -> None:
    assert ruleset(Everything(), deny=False).judge(tcp(destination, 80)) is Verdict.REFUSE


def test_the_plumbings_resolver_answers_dns_alone() -> None:
    rules = ruleset(listed("10.0.0.5"))

    assert rules.permits(IPv4Address("198.19.254.3"), 53)
    assert not rules.permits(IPv4Address("198.19.254.3"), 80)
    assert not ruleset(Everything(), link=Link(closed=LINK.closed)).permits(IPv4Address("198.19.254.3"), 53)


def test_a_listed_port_does_not_open_protocols_that_have_none() -> None:
    rules = ruleset(listed("10.0.0.5:443"))

    assert rules.judge(tcp("10.0.0.5", 443)) is Verdict.ACCEPT
    assert rules.judge(Packet(IPv4Address("10.0.0.5"), Protocol.OTHER)) is Verdict.REFUSE
    assert (
        ruleset(listed("10.0.0.5")).judge(Packet(IPv4Address("10.0.0.5"), Protocol.OTHER)) is Verdict.ACCEPT
    )


def test_an_empty_list_refuses_everything_but_the_namespaces_own_loopback() -> None:
    rules = ruleset(Listed(()), link=Link())

    assert rules.judge(tcp("203.0.113.1", 443)) is Verdict.REFUSE
    assert rules.judge(tcp("127.0.0.1", 443)._replace(loopback=True)) is Verdict.ACCEPT


@given(entries, entries)
def test_overlap_is_symmetric_and_never_between_families(one: AllowEntry, other: AllowEntry) -> None:
    assert overlaps(one.network, other.network) == overlaps(other.network, one.network)
    if one.network.version != other.network.version:
        assert not overlaps(one.network, other.network)


# The text, loaded into a real kernel and read back: what it understood is judged by its own evaluator.


def run_gate(rules: Rules, afterwards: str) -> subprocess.CompletedProcess[str]:
    """Load rules into a fresh network namespace just as the gate does, and then do something there."""
    with tempfile.TemporaryFile() as file:
        file.write(rules.data)
        file.flush()
        number = file.fileno()
        script = f"nft=$1; exec 6</proc/self/fd/{number}; {load(rules)} && {afterwards}"
        return subprocess.run(
            ["unshare", "--user", "--map-root-user", "--net", "/bin/sh", "-c", script, "gate", "nft"],
            pass_fds=(number,),
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": PROGRAMS},
        )


def loaded(rules: Ruleset) -> list[Mapping[str, Any]]:
    """The kernel's listing of a ruleset that was loaded into a fresh network namespace."""
    done = run_gate(Rules.of(rules), "nft -j list table inet ringfence")
    assert done.returncode == 0, done.stderr
    listing: list[Mapping[str, Any]] = json.loads(done.stdout)["nftables"]
    return listing


def policies(listing: list[Mapping[str, Any]]) -> dict[str, str]:
    chains = [item["chain"] for item in listing if "chain" in item]
    return {chain["hook"]: chain["policy"] for chain in chains if "hook" in chain}


def rules_of(listing: list[Mapping[str, Any]], chain: str) -> list[list[Mapping[str, Any]]]:
    rules = [item["rule"] for item in listing if "rule" in item]
    return [rule["expr"] for rule in rules if rule["chain"] == chain]


def output_rules(listing: list[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    return rules_of(listing, "output")


def kernel_judges(rules: list[list[Mapping[str, Any]]], packet: Packet) -> Verdict:
    """The verdict of the listed rules; the chain's policy (drop) if none speaks."""
    for expressions in rules:
        for expression in expressions:
            if "match" in expression:
                if not _kernel_matches(expression["match"], packet):
                    break
            elif "accept" in expression:
                return Verdict.ACCEPT
            else:
                assert expression == {"goto": {"target": "refuse"}}
                return Verdict.REFUSE
    return Verdict.REFUSE


def _kernel_matches(match: Mapping[str, Any], packet: Packet) -> bool:
    if match["op"] == ">":
        assert match["left"] == {"payload": {"protocol": "ip", "field": "hdrlength"}}
        return packet.destination.version == 4 and (6 if packet.routed else 5) > match["right"]
    assert match["op"] == "=="
    if match["left"] == {"exthdr": {"name": "rt"}}:
        return packet.destination.version == 6 and packet.routed
    if "&" in match["left"]:
        to, mask = match["left"]["&"]
        masked = int(IPv6Address(mask)) & int(packet.destination)
        return packet.destination.version == 6 and _kernel_matches(
            {"op": "==", "left": to, "right": match["right"]},
            packet._replace(destination=IPv6Address(masked)),
        )
    if "concat" in match["left"]:
        to, ports = match["left"]["concat"]
        return any(
            _kernel_matches({"op": "==", "left": to, "right": network}, packet)
            and _kernel_matches({"op": "==", "left": ports, "right": port}, packet)
            for network, port in (element["concat"] for element in match["right"]["set"])
        )
    key = next(iter(match["left"].values()))
    right = match["right"]
    values = right["set"] if isinstance(right, dict) and "set" in right else [right]
    protocol = {Protocol.TCP: "tcp", Protocol.UDP: "udp", Protocol.NEIGHBOUR_DISCOVERY: "ipv6-icmp"}
    found: object
    match key:
        case {"key": "oifname"}:
            found = "lo" if packet.loopback else "tap0"
        case {"key": "l4proto"}:
            found = protocol.get(packet.protocol, "esp")
        case {"protocol": "ip" | "ip6" as family, "field": "daddr"}:
            same = packet.destination.version == (4 if family == "ip" else 6)
            return same and any(_kernel_holds(value, packet.destination) for value in values)
        case {"protocol": "ip6", "field": "hoplimit"}:
            found = 255 if packet.protocol is Protocol.NEIGHBOUR_DISCOVERY else 64
        case {"protocol": "icmpv6", "field": "type"}:
            found = "nd-neighbor-solicit" if packet.protocol is Protocol.NEIGHBOUR_DISCOVERY else None
        case {"protocol": "th", "field": "dport"}:
            return packet.port is not None and any(_in_range(packet.port, value) for value in values)
        case _:
            raise AssertionError(f"an expression that this evaluator does not know: {match}")
    return found in values


def _kernel_holds(value: Any, address: Address) -> bool:
    """Whether an element of a set (a network, a range or an address) holds an address of its family."""
    if isinstance(value, dict) and "range" in value:
        first, last = map(ip_address, value["range"])
        return int(first) <= int(address) <= int(last)
    if isinstance(value, dict):
        return address in ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}")
    assert isinstance(value, str), value
    return address == ip_address(value)


def _in_range(port: int, value: Any) -> bool:
    if isinstance(value, dict):
        first, last = value["range"]
        return bool(first <= port <= last)
    return bool(port == value)


@requires("user namespaces", "nft")
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), reaches, st.booleans(), links, st.booleans())
def test_the_kernel_understands_the_text_as_it_is_meant(
    data: st.DataObject, reach: Reach, deny: bool, link: Link, long: bool
) -> None:
    with few_in_a_rule() if long else ExitStack():
        rules = ruleset(reach, deny=deny, link=link)
        listing = loaded(rules)

    assert policies(listing) == {"input": "drop", "forward": "drop", "output": "drop"}
    refusals = rules_of(listing, "refuse")
    assert [list(expressions[-1]) for expressions in refusals] == [["reject"], ["reject"]]
    assert len(refusals[-1]) == 1
    understood = output_rules(listing)
    for packet in data.draw(st.lists(packets(reach), min_size=10, max_size=40)):
        assert kernel_judges(understood, packet) is rules.judge(packet), packet


def _many(shape: str) -> Iterator[AllowEntry]:
    """As many entries as may be written, as hard to load as they can be."""
    for n in range(policy.MOST_ENTRIES):
        port = PortRange(1 + n * 3, 2 + n * 3)
        match shape:
            case "IPv6 networks":
                yield AllowEntry(IPv6Network(((0x2001_0DB8_0000 + 2 * n) << 80, 48)))
            case "ports":
                yield AllowEntry(IPv4Network("10.0.0.5"), port)
            case "pairs":
                yield AllowEntry(IPv4Network((0x0B00_0000 + 8 * n, 31)), port)
            case "IPv6 pairs":
                yield AllowEntry(IPv6Network(((0x2001_0DB8_0000 + 2 * n) << 80, 48)), port)
            case "nested":
                number = (0x2001_0DB8 + n // 96) << 96 | 1
                yield AllowEntry(IPv6Network((number, 33 + n % 96), strict=False), port)


@pytest.mark.slow
@requires("user namespaces", "nft")
@pytest.mark.parametrize("shape", ["IPv6 networks", "ports", "pairs", "IPv6 pairs", "nested"])
def test_the_longest_list_that_may_be_written_loads(shape: str) -> None:
    many = tuple(_many(shape))

    rules = Rules.of(ruleset(Listed(many)))
    done = run_gate(rules, "nft list chain inet ringfence output | tail -n 3")

    assert rules.parts > 1
    assert (done.returncode, done.stderr) == (0, "")
    assert "goto refuse" in done.stdout


@requires("user namespaces", "nft")
def test_a_machine_that_knows_no_pairs_loads_a_rule_for_each_set_of_ports() -> None:
    some = tuple(entry for n, entry in enumerate(_many("pairs")) if n % 64 == 0)

    rules = ruleset(Listed(some), pairs=False)

    assert len(output_rules(loaded(rules))) == len(rules.output) > len(some)
    assert not any(rule.pairs for rule in rules.output)
    assert rules.permits(IPv4Address("11.0.2.0"), 193)
    assert not rules.permits(IPv4Address("11.0.2.0"), 1)


@requires("user namespaces", "nft")
@pytest.mark.parametrize("fault", ["cannot be read", "is wrong"])
def test_nothing_follows_a_ruleset_of_which_a_part_cannot_be_loaded(fault: str) -> None:
    with few_in_a_rule():
        rules = Rules.of(ruleset(listed("10.0.0.5", "10.0.0.6:80", "10.0.0.7:81")))
    assert rules.parts > 2
    if fault == "is wrong":
        wrong = b"add rule inet ringfence nowhere accept\n".ljust(rules.block, b"\n")
        rules = Rules(rules.data[: 2 * rules.block] + wrong, 3, rules.block)
        done = run_gate(rules, "echo followed")
    else:
        with tempfile.TemporaryDirectory() as directory:
            os.symlink("/usr/bin/false", f"{directory}/dd")
            with patch(f"{__name__}.PROGRAMS", f"{directory}:{PROGRAMS}"):
                done = run_gate(rules, "echo followed")

    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.parametrize("destination", ["10.0.0.5", "2001:db8::1"])
def test_a_packet_that_would_be_sent_on_from_an_allowed_address_is_refused(destination: str) -> None:
    direct = tcp(destination, 443)

    for rules in (ruleset(listed(destination)), ruleset(Everything())):
        assert rules.judge(direct) is Verdict.ACCEPT
        assert rules.judge(direct._replace(routed=True)) is Verdict.REFUSE


def test_a_rule_without_destination_is_about_every_packet() -> None:
    assert Rule(Verdict.REFUSE).matches(tcp("203.0.113.1", 1))
