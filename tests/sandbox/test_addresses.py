"""Entries of `network.allow` that are addresses: what is taken, what is refused and in which words."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.policy.addresses import IPV4_MAPPED, AllowEntry, AllowEntryError, PortRange


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network | IPv6Network:
    """Any network that an entry may name."""
    if draw(st.booleans()):
        return IPv4Network((draw(st.integers(1, 2**32 - 1)), draw(st.integers(0, 32))), strict=False)
    network = IPv6Network((draw(st.integers(1, 2**128 - 1)), draw(st.integers(0, 128))), strict=False)
    return network if not network.subnet_of(IPV4_MAPPED) else IPv6Network("2001:db8::/32")


port_ranges = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda p: PortRange(min(p), max(p)))
entries = st.builds(AllowEntry, networks(), st.none() | port_ranges)


@given(entries)
def test_the_canonical_spelling_reads_back_as_the_same_entry(entry: AllowEntry) -> None:
    assert AllowEntry.parse(str(entry)) == entry


@given(st.text(alphabet="0123456789abcdefg.:/[]-%* ", max_size=40) | st.text(max_size=20))
def test_any_text_is_either_an_entry_or_an_error_that_shows_what_is_accepted(text: str) -> None:
    message = ""
    try:
        entry = AllowEntry.parse(text)
    except AllowEntryError as error:
        message = str(error)
    else:
        assert AllowEntry.parse(str(entry)) == entry
    assert not message or (repr(text) in message and "10.0.0.0/8:8000-8100" in message)


@pytest.mark.parametrize(
    ("text", "network", "ports"),
    [
        ("10.0.0.5", "10.0.0.5/32", None),
        ("10.0.0.5/32", "10.0.0.5/32", None),
        ("10.0.0.5:443", "10.0.0.5/32", (443, 443)),
        ("10.0.0.0/8", "10.0.0.0/8", None),
        ("10.0.0.0/8:8000-8100", "10.0.0.0/8", (8000, 8100)),
        ("0.0.0.0/0", "0.0.0.0/0", None),
        ("2001:db8::1", "2001:db8::1/128", None),
        ("[2001:db8::1]", "2001:db8::1/128", None),
        ("[2001:db8::1]:5432", "2001:db8::1/128", (5432, 5432)),
        ("[2001:db8::/32]:443", "2001:db8::/32", (443, 443)),
        ("2001:db8::/32", "2001:db8::/32", None),
        ("::/0", "::/0", None),
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201/128", None),
    ],
)
def test_every_accepted_form_means_what_it_says(
    text: str, network: str, ports: tuple[int, int] | None
) -> None:
    entry = AllowEntry.parse(text)

    assert str(entry.network) == network
    assert entry.ports == (None if ports is None else PortRange(*ports))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        (" 10.0.0.5", "white space"),
        ("10.0.0.5\n", "white space"),
        ("10.0.0.٥", "characters that no address has"),
        ("example.com", "not an IPv4 address"),
        ("10.0.0.5/8", "host bits are set after the first 8; the network is 10.0.0.0/8"),
        ("[2001:db8::1/32]:443", "host bits are set after the first 32"),
        ("10.0.0.0/33", "33 exceeds the 32 bits of IPv4"),
        ("2001:db8::/129", "129 exceeds the 128 bits of IPv6"),
        ("10.0.0.0/255.0.0.0", "not a plain decimal number"),
        ("10.0.0.0/08", "not a plain decimal number without leading zeros"),
        ("10.0.0.0/", "not a plain decimal number"),
        ("010.0.0.5", "a leading zero"),
        ("10.0.0", "not an IPv4 address"),
        ("167772165", "not an IPv4 address"),
        ("0x0a000005", "not an IPv4 address"),
        ("10.0.0.256", "not an IPv4 address"),
        ("fe80::1%eth0", "zone ids"),
        ("[fe80::1%eth0]:80", "zone ids"),
        ("::ffff:10.0.0.5", "an IPv4-mapped IPv6 address is IPv4 on the wire, write 10.0.0.5 instead"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("[::ffff:169.254.169.254]:80", "IPv4-mapped"),
        ("0.0.0.0", "for all addresses of this family, write 0.0.0.0/0"),
        ("[::]:80", "for all addresses of this family, write ::/0"),
        ("10.0.0.5:0", "port 0 is outside 1 to 65535"),
        ("10.0.0.5:65536", "port 65536 is outside 1 to 65535"),
        ("10.0.0.5:99999999999999999999", "is outside 1 to 65535"),
        ("10.0.0.5:0443", "without leading zeros"),
        ("10.0.0.5:", "the port '' is not a plain decimal number"),
        ("10.0.0.5:443-", "the port '' is not a plain decimal number"),
        ("10.0.0.5:443-80", "the wrong way round"),
        ("10.0.0.5:+443", "not a plain decimal number"),
        ("10.0.0.5:https", "not a plain decimal number"),
        ("[10.0.0.5]:443", "brackets are for IPv6 only"),
        ("[2001:db8::1", "the bracket is not closed"),
        ("[2001:db8::1]443", "after the bracket comes ':'"),
        ("2001:db8::1]:443", "a bracket in the wrong place"),
        (":443", "the address is missing"),
    ],
)
def test_an_entry_that_could_be_misread_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(AllowEntryError) as caught:
        AllowEntry.parse(text)

    assert problem in caught.value.problem


def test_a_thing_that_is_no_string_is_refused() -> None:
    with pytest.raises(AllowEntryError, match="an entry must be a string"):
        AllowEntry.parse(443)  # type: ignore[arg-type]


def test_an_entry_covers_its_addresses_on_its_ports_and_nothing_else() -> None:
    entry = AllowEntry.parse("10.0.0.0/8:8000-8100")

    assert entry.covers(IPv4Address("10.255.255.255"), 8100)
    assert not entry.covers(IPv4Address("10.0.0.1"), 8101)
    assert not entry.covers(IPv4Address("11.0.0.0"), 8000)
    assert not entry.covers(IPv6Address("::a00:1"), 8000)


def test_an_entry_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AllowEntry.parse("10.0.0.5").ports = None  # type: ignore[misc]
