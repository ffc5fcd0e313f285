"""Where a run may connect to: what is listed, what a name has opened, and never what is blocked."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.egress.ordering import orders_of, takes_every_port
from ringfence.sandbox.egress.relaying.destinations import (
    LEAST_OPEN_S,
    MOST_OPENED,
    Destinations,
    Open,
    Refused,
)
from ringfence.sandbox.egress.relaying.orders import Orders
from ringfence.sandbox.policy import Network
from ringfence.sandbox.policy.addresses import AllowEntry
from ringfence.sandbox.policy.blocked import blocked_ranges

from tests.sandbox.test_addresses import entries

PUBLIC = ip_address("198.51.100.7")
OTHER = ip_address("198.51.100.8")


def destinations(*allow: str, **network: object) -> Destinations:
    return Destinations(orders_of(Network.model_validate({"allow": allow, **network})))


def may(found: Destinations, address: str | IPv4Address | IPv6Address, port: int, now: float = 0.0) -> bool:
    return isinstance(found.judge(ip_address(str(address)), port, now), Open)


def test_an_address_is_open_on_its_listed_ports() -> None:
    found = destinations(
        "198.51.100.7:80,443", "198.51.100.0/28:8000-8010", "[2001:db8::1]:53", "203.0.113.9"
    )

    assert [may(found, PUBLIC, port) for port in (80, 443, 81, 8000, 8010, 8011)] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    assert may(found, "2001:db8::1", 53)
    assert not may(found, "2001:db8::2", 53)
    assert may(found, "203.0.113.9", 1)


def test_a_name_opens_what_it_was_answered_with_on_its_ports_and_for_a_while() -> None:
    found = destinations("api.example.com:443")

    assert not may(found, PUBLIC, 443)
    assert found.open("api.example.com", [PUBLIC], 5, 100.0) == ((PUBLIC,), ())
    assert may(found, PUBLIC, 443, 100.0)
    assert not may(found, PUBLIC, 80, 100.0)
    assert not may(found, OTHER, 443, 100.0)
    assert may(found, PUBLIC, 443, 100.0 + LEAST_OPEN_S - 1)
    assert not may(found, PUBLIC, 443, 100.0 + LEAST_OPEN_S)


def test_a_long_lived_answer_is_open_for_as_long_as_it_lives_and_a_new_one_begins_anew() -> None:
    found = destinations("api.example.com:443")
    found.open("api.example.com", [PUBLIC], 3600, 0.0)
    assert may(found, PUBLIC, 443, 3599.0)

    found.open("api.example.com", [PUBLIC], 5, 3590.0)

    assert may(found, PUBLIC, 443, 3600.0)


def test_a_wildcard_is_every_name_beneath_and_not_itself() -> None:
    found = destinations("*.example.com:443")

    assert found.permits_name("a.example.com")
    assert found.permits_name("b.a.example.com")
    assert not found.permits_name("example.com")
    assert not found.permits_name("badexample.com")
    assert found.permits_server_name("a.example.com", 443)
    assert not found.permits_server_name("a.example.com", 80)


def test_two_names_at_one_address_each_open_their_own_ports() -> None:
    found = destinations("one.example:80", "two.example:443")
    found.open("one.example", [PUBLIC], 5, 0.0)

    assert may(found, PUBLIC, 80)
    assert not may(found, PUBLIC, 443)

    found.open("two.example", [PUBLIC], 5, 0.0)
    assert found.judge(PUBLIC, 80, 0.0) == Open("one.example")
    assert found.judge(PUBLIC, 443, 0.0) == Open("two.example")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
    ],
)
@pytest.mark.parametrize("deny", [True, False])
def test_a_name_opens_nothing_of_the_machine_or_its_metadata(address: str, deny: bool) -> None:
    """Whoever owns the name decides what it means: also where listed addresses of that kind are open."""
    found = destinations("rebinds.example", denyLinkLocalAndMetadata=deny)

    opened, refused = found.open("rebinds.example", [ip_address(address)], 5, 0.0)

    assert opened == ()
    assert [str(each) for each, _ in refused] == [str(ip_address(address))]
    assert not may(found, address, 80)


def test_private_networks_can_have_names_where_the_policy_opens_them() -> None:
    for deny, opens in ((True, False), (False, True)):
        found = destinations("db.internal", denyLinkLocalAndMetadata=deny)
        opened, _ = found.open("db.internal", [ip_address("fd12::1")], 5, 0.0)
        assert bool(opened) is opens


def test_local_services_are_open_on_their_ports_alone() -> None:
    found = destinations("localhost:8080")

    assert found.judge(ip_address("127.0.0.1"), 8080, 0.0) == Open(local=True)
    assert found.judge(ip_address("::1"), 8080, 0.0) == Open(local=True)
    assert not may(found, "127.0.0.1", 8081)
    assert not may(found, "127.0.0.1", 80)


def test_everything_is_open_without_a_list_but_for_what_is_blocked() -> None:
    found = destinations(mode="unrestricted")

    assert may(found, PUBLIC, 1)
    assert may(found, "2001:db8::1", 65535)
    assert found.permits_name("whatever.example")
    assert not may(found, "169.254.169.254", 80)
    assert not may(found, "127.0.0.1", 80)


def test_there_is_an_end_to_what_names_can_open() -> None:
    found = destinations("*.example")
    first = IPv4Address("198.18.0.0")

    for each in range(MOST_OPENED + 1):
        found.open(f"n{each}.example", [first + each], 5, 0.0)

    assert not may(found, first, 80)
    assert may(found, first + 1, 80)
    assert may(found, first + MOST_OPENED, 80)


PORTS = st.integers(min_value=1, max_value=65535)
ADDRESSES = st.one_of(
    st.ip_addresses(),
    st.sampled_from(["127.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "64:ff9b::a9fe:1"]),
).map(lambda each: ip_address(str(each)))


@given(st.lists(entries, max_size=6), ADDRESSES, PORTS, st.booleans())
def test_no_more_is_open_than_the_entries_cover_and_no_less(
    allow: list[AllowEntry], address: IPv4Address | IPv6Address, port: int, deny: bool
) -> None:
    """An oracle that knows nothing of tables: each entry and each blocked range is asked."""
    network = Network(allow=tuple(map(str, allow)), deny_link_local_and_metadata=deny)
    found = Destinations(orders_of(network))
    places = [address, *(each.network.network_address for each in allow)]

    for place in places:
        blocked = any(place in each.where for each in blocked_ranges(deny))
        covered = any(entry.covers(place, port) for entry in network.entries)
        local = place.is_loopback and any(port in each for entry in network.local for each in entry.ports)
        assert may(found, place, port) is (local or (covered and not blocked))


@given(st.lists(entries, max_size=6))
def test_what_the_relay_is_told_is_what_was_written(allow: list[AllowEntry]) -> None:
    network = Network(allow=(*map(str, allow), "*.example.com:1-9,11", "db", "localhost:8080,9000-9001"))
    orders = orders_of(network)

    assert Orders.from_json(orders.to_json()) == orders


def test_ports_are_taken_one_by_one_while_they_are_few() -> None:
    assert not takes_every_port(Network(allow=("198.51.100.7:1-500", "a.example:80")))
    assert takes_every_port(Network(allow=("198.51.100.7:1-5000",)))
    assert takes_every_port(Network(allow=("localhost:1024-2048",)))
    assert not takes_every_port(Network(allow=("198.51.100.7:1-500", "a.example:1-400", "localhost:1-500")))
    assert takes_every_port(Network(allow=("a.example",)))
    assert takes_every_port(Network(allow=("198.51.100.7",)))
    assert takes_every_port(Network.model_validate({"mode": "unrestricted"}))


def test_listed_ports_are_told_in_order() -> None:
    ports = orders_of(Network(allow=("198.51.100.7:443", "a.example:80,443"))).listed_ports()

    assert all(one < other for one, other in pairwise(ports))
    assert ports == ((80, 80), (443, 443))


def test_a_refusal_says_why() -> None:
    found = destinations("198.51.100.7:80")

    assert found.judge(OTHER, 80, 0.0) == Refused("not allowed")
    refused = found.judge(ip_address("169.254.169.254"), 80, 0.0)
    assert isinstance(refused, Refused)
    assert refused.why.startswith("blocked: link-local")


def test_a_service_of_the_machine_itself_is_at_two_addresses_alone() -> None:
    found = destinations("localhost:8080", "198.51.100.0/24:8080")

    assert may(found, "127.0.0.1", 8080)
    assert may(found, "::1", 8080)
    assert not any(may(found, other, 8080) for other in ("127.0.0.53", "127.9.9.9", "0.0.0.0", "::"))
    assert not may(found, "127.0.0.1", 8081)
