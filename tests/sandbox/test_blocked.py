"""What stays blocked: the table, and every form in which IPv4 can be written inside IPv6, said in other words."""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import DEFAULT_POLICY, PolicyError, overlay, receive
from ringfence.sandbox.egress.link.gate import Rules
from ringfence.sandbox.egress.link.ruleset import (
    Everything,
    Link,
    Listed,
    Packet,
    Protocol,
    Ruleset,
    Verdict,
    build_ruleset,
)
from ringfence.sandbox.policy.addresses import AllowEntry
from ringfence.sandbox.policy.blocked import LINK_LOCAL_AND_METADATA, NEVER_REACHABLE, shadowed
from ringfence.sandbox.policy.embedded import FORMS, plain_ipv4

from tests.primitives import PROGRAMS, requires

ALWAYS4 = [IPv4Network(text) for text in ("127.0.0.0/8", "0.0.0.0/8")]
BY_POLICY4 = [
    IPv4Network(text)
    for text in (
        "169.254.0.0/16",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/24",
        "239.255.0.0/16",
        "255.255.255.255/32",
    )
]
ORDINARY4 = IPv4Address("203.0.113.7")


def _hex(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


# Each from its RFC, byte by byte; `r` fills what the form leaves open.
EMBEDDINGS: dict[str, Callable[[bytes, Callable[[int], bytes]], bytes]] = {
    "compatible": lambda a, r: bytes(12) + a,
    "translated": lambda a, r: _hex("0000 0000 0000 0000 ffff 0000") + a,
    "NAT64": lambda a, r: _hex("0064 ff9b 0000 0000 0000 0000") + a,
    "local NAT64 /48": lambda a, r: _hex("0064 ff9b 0001") + a[:2] + b"\0" + a[2:] + r(5),
    "local NAT64 /56": lambda a, r: _hex("0064 ff9b 0001") + r(1) + a[:1] + b"\0" + a[1:] + r(4),
    "local NAT64 /64": lambda a, r: _hex("0064 ff9b 0001") + r(2) + b"\0" + a + r(3),
    "local NAT64 /96": lambda a, r: _hex("0064 ff9b 0001") + r(2) + b"\0" + r(3) + a,
    "6to4": lambda a, r: _hex("2002") + a + r(10),
    "Teredo server": lambda a, r: _hex("2001 0000") + a + r(8),
    "Teredo client": lambda a, r: _hex("2001 0000") + r(8) + bytes(255 - octet for octet in a),
    "ISATAP": lambda a, r: _hex("2a00") + r(6) + _hex("0000 5efe") + a,
    "ISATAP, unique": lambda a, r: _hex("2a00") + r(6) + _hex("0200 5efe") + a,
}
MAPPED = "mapped"


def embed(form: str, address: IPv4Address, seed: int = 0) -> IPv6Address:
    made = random.Random(seed)
    return IPv6Address(EMBEDDINGS[form](address.packed, made.randbytes))


def edges(network: IPv4Network) -> Iterator[IPv4Address]:
    yield network.network_address
    yield network.broadcast_address
    yield network[network.num_addresses // 2]


@functools.cache
def rules(reach: Everything | Listed, *, deny: bool) -> Ruleset:
    return build_ruleset(reach, deny_link_local_and_metadata=deny, link=Link())


def verdict(address: IPv6Address, *, deny: bool, reach: Everything | Listed) -> Verdict:
    return rules(reach, deny=deny).judge(Packet(address, Protocol.TCP, 80))


EVERYWHERE = Listed((AllowEntry.parse("::/0"), AllowEntry.parse("0.0.0.0/0")))


def test_the_tests_know_every_ipv4_range_that_is_blocked() -> None:
    blocked = {each.where for each in (*NEVER_REACHABLE, *LINK_LOCAL_AND_METADATA)}

    assert {each for each in blocked if isinstance(each, IPv4Network)} == {*ALWAYS4, *BY_POLICY4}
    # The one that is written in two ways here, and the one that is blocked as a whole.
    assert len(EMBEDDINGS) == len(FORMS) + 1 - 1


@pytest.mark.parametrize("reach", [Everything(), EVERYWHERE], ids=["everything", "::/0"])
@pytest.mark.parametrize("form", EMBEDDINGS)
def test_what_is_blocked_as_ipv4_is_blocked_in_every_form_inside_ipv6(
    form: str, reach: Everything | Listed
) -> None:
    for network in (*ALWAYS4, *BY_POLICY4):
        for address in edges(network):
            for seed in range(3):
                hidden = embed(form, address, seed)
                assert verdict(hidden, deny=True, reach=reach) is Verdict.REFUSE, (network, hidden)
                if network in ALWAYS4:
                    assert verdict(hidden, deny=False, reach=reach) is Verdict.REFUSE, (network, hidden)


@given(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(), st.booleans())
def test_a_form_hides_just_what_would_be_blocked_without_it(
    address: IPv4Address, seed: int, deny: bool
) -> None:
    blocked = any(address in network for network in (*ALWAYS4, *(BY_POLICY4 if deny else ())))
    for form in ("NAT64", "6to4", "translated", "ISATAP"):
        assert (
            verdict(embed(form, address, seed), deny=deny, reach=Everything()) is Verdict.REFUSE
        ) == blocked


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:203.0.113.7",
        "fec0::1",
        "feff:ffff::1",
        "fe80::1",
        "febf::1",
        "fc00::1",
        "5f00::1",
        "2001:1::1",
        "2001:1::2",
        "64:ff9b:1::1",
        *(f"ff{flags:x}{scope}::1" for flags in (0, 1, 3, 7, 15) for scope in range(6)),
    ],
)
def test_addresses_that_mean_something_near_are_blocked_whatever_is_allowed(address: str) -> None:
    for reach in (Everything(), EVERYWHERE):
        assert verdict(IPv6Address(address), deny=True, reach=reach) is Verdict.REFUSE


@pytest.mark.parametrize(
    "address", ["2606:4700::1111", "2001:db8::1", "2001:4860:4860::8888", "ff0e::1", "ff38::1"]
)
def test_addresses_of_the_world_are_not(address: str) -> None:
    assert verdict(IPv6Address(address), deny=True, reach=Everything()) is Verdict.ACCEPT


# The real thing: packets, and what the kernel makes of them.

_SEND = """
import json, socket, sys
def sent(address):
    link = socket.if_nametoindex("out0")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as end:
        end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link)
        try:
            end.sendto(b"?", (address, 9, 0, link if address.startswith(("ff", "fe")) else 0))
        except OSError as error:
            return error.strerror
    return "sent"
print(json.dumps([sent(address) for address in json.load(sys.stdin)]))
"""
REFUSED = {"Operation not permitted", "Permission denied"}
_LINK = (
    "ip link add out0 type veth peer name out1 && ip link set lo up && ip link set out0 up && ip link set out1 up && "
    "ip -6 address add 2606:4700::2/64 dev out0 nodad && ip -6 route add default dev out0"
)


def outcomes(addresses: list[str], *, filtered: bool) -> list[str]:
    """What comes of sending a datagram to each, from a namespace with a link that takes everything."""
    rules = Rules.of(build_ruleset(Everything(), deny_link_local_and_metadata=True, link=Link()))
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        file.write(rules.data)
    assert rules.parts == 1
    load = f"nft -f /proc/self/fd/{read} && " if filtered else ""
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--net",
            "sh",
            "-c",
            f"{load}{_LINK} && exec python3 -c '{_SEND}'",
        ],
        pass_fds=(read,),
        input=json.dumps(addresses),
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": PROGRAMS},
    )
    os.close(read)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


@requires("user namespaces", "nft", "ip")
def test_the_kernel_sends_no_packet_to_any_form_of_what_is_blocked() -> None:
    hidden = [
        str(embed(form, address))
        for form in EMBEDDINGS
        for network in (*ALWAYS4, *BY_POLICY4)
        for address in edges(network)
    ]
    groups = [f"ff{flags:x}{scope}::1" for flags in (0, 1, 3) for scope in range(2, 6)]
    near = ["fec0::1", "fe80::1", "5f00::1", *groups]
    # Not its own address, to which the kernel sends nothing over a link.
    addresses = [address for address in (*hidden, *near) if address != "::"]
    assert set(outcomes(addresses, filtered=False)) == {"sent"}

    open_ones = [str(embed(form, ORDINARY4)) for form in EMBEDDINGS if not form.startswith("local")]
    answers = outcomes([*addresses, *open_ones], filtered=True)

    let_through = answers[len(addresses) :]
    assert {one: how for one, how in zip(addresses, answers, strict=False) if how not in REFUSED} == {}
    assert set(let_through) == {"sent"}


# What is said of them.


def test_every_blocked_range_and_every_form_says_whose_word_it_is() -> None:
    for blocked in (*NEVER_REACHABLE, *LINK_LOCAL_AND_METADATA):
        assert blocked.what
        assert blocked.source
    assert all(form.source.startswith("RFC ") for form in FORMS)


def told(*texts: str, deny: bool = True) -> list[str]:
    entries = [AllowEntry.parse(text) for text in texts]
    return [str(each) for each in shadowed(entries, deny_link_local_and_metadata=deny)]


def test_an_entry_that_stays_blocked_is_told_with_the_reason() -> None:
    texts = (
        "169.254.169.254:80",
        "10.0.0.0/8",
        "fd00:ec2::254",
        "127.0.0.1:5432",
        "0.0.0.0/0",
        "2001:db8::1",
    )

    found = told(*texts)

    assert found[0].startswith("169.254.169.254:80 stays blocked: link-local, and the metadata")
    assert found[1].startswith("fd00:ec2::254 stays blocked: unique local")
    assert found[2].startswith("127.0.0.1:5432 stays blocked: loopback")
    assert len(found) == 3
    assert len(told(*texts, deny=False)) == 1


@pytest.mark.parametrize("form", [form for form in EMBEDDINGS if not form.startswith("local")])
def test_an_entry_that_hides_a_blocked_address_is_told_with_the_form(form: str) -> None:
    (found,) = told(f"[{embed(form, IPv4Address('169.254.169.254'))}]:80")

    assert "stays blocked: link-local, and the metadata" in found
    assert "IPv4 169.254.0.0/16 inside IPv6: " in found


@given(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(96, 128))
def test_an_entry_that_no_packet_goes_to_is_refused_when_it_is_written_with_what_to_write(
    address: IPv4Address, prefix: int
) -> None:
    plain = IPv4Network((address, prefix - 96), strict=False)
    if any(plain.overlaps(network) for network in ALWAYS4):
        return
    for form in ("compatible", "translated"):
        network = ip_network(f"{embed(form, plain.network_address)}/{prefix}")
        with pytest.raises(PolicyError, match="no packet has such a destination") as refused:
            overlay(DEFAULT_POLICY, {"network": {"allow": ["192.0.2.1", str(network)]}})
        assert refused.value.problems[0].startswith(f"network.allow.1: '{network}'")
        expected = plain.network_address if prefix == 128 else plain
        assert refused.value.problems[0].endswith(f"write {expected}")


def test_such_an_entry_that_was_stored_is_still_read_and_may_stay() -> None:
    stored = receive({**DEFAULT_POLICY.to_wire(), "network": {"allow": ["::10.0.0.5"]}})

    assert stored.not_understood == ()
    assert (
        overlay(stored.policy, {"network": {"allow": ["::10.0.0.5", "192.0.2.1"]}}).network.allow[0]
        == "::10.0.0.5"
    )


def test_what_packets_go_to_is_no_other_spelling_of_ipv4() -> None:
    for text in ("::1", "::/0", "2001:db8::/32", "64:ff9b::a00:5", "2002:a00:5::", "10.0.0.5", "::/95"):
        assert plain_ipv4(ip_network(text)) is None, text
