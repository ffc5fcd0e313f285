"""Every kind of entry of `network.allow`: what it means, and what is refused in which words."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.policy import (
    DEFAULT_POLICY,
    MOST_ENTRIES,
    Network,
    NetworkMode,
    PolicyError,
    SandboxPolicy,
    overlay,
    receive,
)
from ringfence.sandbox.policy.addresses import AllowEntry, AllowEntryError, PortRange
from ringfence.sandbox.policy.destinations import (
    LocalEntry,
    NameEntry,
    SocketEntry,
    joined_ports,
    parse_entry,
)


def ports(*ranges: tuple[int, int] | int) -> tuple[PortRange, ...]:
    return tuple(PortRange(each, each) if isinstance(each, int) else PortRange(*each) for each in ranges)


labels = st.from_regex(r"[a-z0-9_]([a-z0-9_]{0,20}[a-z0-9_])?", fullmatch=True)
port_ranges = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda p: PortRange(min(p), max(p)))
port_lists = st.lists(port_ranges, min_size=1, max_size=5).map(joined_ports)
names = st.builds(
    NameEntry,
    st.builds(
        lambda first, last: ".".join([*first, last]), st.lists(labels, max_size=4), st.sampled_from("ab")
    ),
    st.booleans(),
    st.none() | port_lists,
)


@given(names | st.builds(LocalEntry, port_lists))
def test_the_canonical_spelling_reads_back_as_the_same_entry(entry: NameEntry | LocalEntry) -> None:
    assert parse_entry(str(entry)) == (entry,)


@given(st.text(alphabet="0123456789abxü.:/[]-*,_ ", max_size=40) | st.text(max_size=30))
def test_any_text_is_either_entries_or_an_error_that_shows_what_is_accepted(text: str) -> None:
    message = ""
    try:
        entries = parse_entry(text)
    except AllowEntryError as error:
        message = str(error)
    else:
        assert tuple(found for each in entries for found in parse_entry(str(each))) == entries
    assert not message or (repr(text) in message and "api.example.com:443,8443" in message)


@given(st.lists(port_ranges, max_size=6), st.integers(1, 65535))
def test_joined_ranges_hold_the_same_ports_and_lie_apart(ranges: list[PortRange], port: int) -> None:
    joined = joined_ports(ranges)

    assert any(port in each for each in joined) == any(port in each for each in ranges)
    assert all(one.last + 1 < other.first for one, other in itertools.pairwise(joined))


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("api.example.com", NameEntry("api.example.com")),
        ("api.example.com:443", NameEntry("api.example.com", ports=ports(443))),
        ("API.Example.COM.:443", NameEntry("api.example.com", ports=ports(443))),
        ("api.example.com:8443,443,444", NameEntry("api.example.com", ports=ports((443, 444), 8443))),
        ("*.example.com:443", NameEntry("example.com", wildcard=True, ports=ports(443))),
        ("db:5432", NameEntry("db", ports=ports(5432))),
        ("_ldap._tcp.example.com", NameEntry("_ldap._tcp.example.com")),
        ("r3---sn-4g5.example.com", NameEntry("r3---sn-4g5.example.com")),
        ("bücher.example", NameEntry("xn--bcher-kva.example")),
        ("BÜCHER.example.", NameEntry("xn--bcher-kva.example")),
        ("*.пример.рф:443", NameEntry("xn--e1afmkfd.xn--p1ai", wildcard=True, ports=ports(443))),
        ("xn--bcher-kva.example", NameEntry("xn--bcher-kva.example")),
        ("localhost:8080", LocalEntry(ports(8080))),
        ("LocalHost.:8080", LocalEntry(ports(8080))),
        ("127.0.0.1:8080,9000-9010", LocalEntry(ports(8080, (9000, 9010)))),
        ("[::1]:8080", LocalEntry(ports(8080))),
        ("unix:/run/postgresql/.s.PGSQL.5432", SocketEntry("/run/postgresql/.s.PGSQL.5432")),
        ("unix:/run/a,b:c", SocketEntry("/run/a,b:c")),
        ("unix:/dev/log", SocketEntry("/dev/log")),
        # As before there were lists and names.
        ("127.0.0.1", AllowEntry.parse("127.0.0.1")),
        ("10.0.0.5:443", AllowEntry.parse("10.0.0.5:443")),
    ],
)
def test_every_accepted_form_means_what_it_says(text: str, entry: object) -> None:
    assert parse_entry(text) == (entry,)


def test_an_address_with_a_list_of_ports_is_one_entry_for_each_range() -> None:
    assert parse_entry("10.0.0.0/8:443,80-81,82") == (
        AllowEntry.parse("10.0.0.0/8:80-82"),
        AllowEntry.parse("10.0.0.0/8:443"),
    )
    assert [str(each) for each in parse_entry("[2001:db8::1]:1,3")] == ["[2001:db8::1]:1", "[2001:db8::1]:3"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("a b.example.com", "white space"),
        ("a\u00a0b.example.com", "characters that no address and no name has"),
        ("a\0.example.com", "characters that no address and no name has"),
        ("*", "for everything, set network.mode to unrestricted"),
        ("*:443", "for everything, set network.mode to unrestricted"),
        ("*.", "there is nothing between two dots"),
        ("api*.example.com", "* stands for whole labels at the front"),
        ("api.*.example.com", "* stands for whole labels at the front"),
        ("*.*.example.com", "* stands for whole labels at the front"),
        ("1.2.3", "not an IPv4 address"),
        ("1.2.3.4.", "not an IPv4 address"),
        ("0x7f.1", "not an IPv4 address"),
        ("0x7f000001", "not an IPv4 address"),
        ("2130706433", "not an IPv4 address"),
        ("example.0x10", "not an IPv4 address"),
        ("*.0x7f", "a name cannot end in a number"),
        ("１２７.０.０.１", "a name cannot end in a number"),
        ("example.１", "a name cannot end in a number"),
        ("a..example.com", "there is nothing between two dots"),
        (".example.com", "there is nothing between two dots"),
        ("example.com..", "there is nothing between two dots"),
        ("-a.example.com", "begins or ends with a hyphen"),
        ("a-.example.com", "begins or ends with a hyphen"),
        ("a@b.example.com", "other characters than letters"),
        (f"{'a' * 64}.example.com", "more than 63 characters"),
        (".".join(["a" * 60] * 5), "a name has at most 253 characters, and this 304"),
        ("ü" * 300, "a name has at most 253 characters"),
        ("xn--zzzzzz--.com", "not a name in any language"),
        ("a/b.ü.example", "not a name in any language"),
        ("example.com/24", "a name has no prefix length"),
        ("https://api.example.com", "this is a URL"),
        ("http://10.0.0.5/", "this is a URL"),
        ("10.0.0.5,10.0.0.6", "write each destination as an entry of its own"),
        ("api.example.com,b.example.com:443", "write each destination as an entry of its own"),
        ("api.example.com:", "the port '' is not"),
        ("api.example.com:443,", "the port '' is not"),
        ("api.example.com:https", "the port 'https' is not"),
        ("api.example.com:0", "port 0 is outside"),
        ("[api.example.com]:443", "brackets are for IPv6 only"),
        ("localhost", "name the ports of the machine's own services"),
        ("api.localhost:80", "the machine itself (RFC 6761): write localhost:8080"),
        ("*.localhost:80", "the machine itself (RFC 6761): write localhost:8080"),
        ("unix:run/app.sock", "is not an absolute path"),
        ("unix:/run/../etc/x", "write /etc/x"),
        ("unix:/run//app.sock", "write /run/app.sock"),
        ("unix:/", "'/' is a directory"),
        ("unix:/proc/1/root/run/app.sock", "cannot be shown"),
        ("unix:/dev/shm/x", "a run has devices of its own"),
        ("unix:/tmp/script/x", "a run has one of its own"),
        ("unix:/run/\x1b", "characters in it that cannot be printed"),
        ("unix:@abstract", "is not an absolute path"),
        (f"unix:/run/{'x' * 108}", "no program can name a socket of more than 107"),
        (f"a.example.com:{','.join(['1'] * 5000)}", "more than 4,096 characters"),
    ],
)
def test_an_entry_that_could_be_misread_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(AllowEntryError) as caught:
        parse_entry(text)

    assert problem in caught.value.problem


def test_a_wildcard_means_every_name_below_and_not_the_name_itself() -> None:
    (entry,) = parse_entry("*.example.com")
    assert isinstance(entry, NameEntry)

    assert [entry.matches(name) for name in ("a.example.com", "b.a.example.com")] == [True, True]
    others = ("example.com", ".example.com", "badexample.com", "a.example.com.evil.test", "", "com")
    assert not any(entry.matches(name) for name in others)


def test_a_name_means_itself_alone() -> None:
    entry = NameEntry("example.com")

    assert entry.matches("example.com")
    assert not any(entry.matches(name) for name in ("a.example.com", "xample.com", "example.com.", ""))


MIXED = ("10.0.0.5:443,8443", "api.example.com:443", "localhost:8080", "unix:/run/app.sock", "*.example.org")


def test_an_allowlist_keeps_what_was_written_and_tells_its_kinds_apart() -> None:
    network = Network(allow=MIXED)

    assert network.allow == MIXED
    assert [str(each) for each in network.entries] == ["10.0.0.5:443", "10.0.0.5:8443"]
    assert [str(each) for each in network.names] == ["api.example.com:443", "*.example.org"]
    assert [str(each) for each in network.local] == ["localhost:8080"]
    assert [each.path for each in network.sockets] == ["/run/app.sock"]
    assert not network.denies_everything


def test_a_policy_that_names_sockets_alone_lets_no_packet_leave() -> None:
    assert Network(allow=("unix:/run/app.sock",)).denies_everything
    assert not Network(allow=("unix:/run/app.sock",), mode=NetworkMode.UNRESTRICTED).denies_everything


def test_sockets_are_given_under_every_mode_but_deny() -> None:
    given = {mode: Network(mode=mode, allow=("unix:/run/app.sock",)).sockets for mode in NetworkMode}

    assert [mode for mode, sockets in given.items() if not sockets] == [NetworkMode.DENY]


def test_every_kind_of_entry_is_understood_when_it_is_received() -> None:
    wire = overlay(DEFAULT_POLICY, {"network": {"allow": list(MIXED)}}).to_wire()

    assert receive(wire).not_understood == ()
    assert receive(wire).policy == SandboxPolicy.parse(wire)


@pytest.mark.parametrize("text", ["127.0.0.0/8", "127.0.0.1", "127.0.0.2:80", "::1", "127.0.0.0/24:443"])
def test_loopback_other_than_named_ports_is_refused_when_it_is_written_and_stays_where_it_is_stored(
    text: str,
) -> None:
    with pytest.raises(
        PolicyError, match=r"network\.allow\.1: '.*' is loopback, .* write localhost and its port"
    ):
        overlay(DEFAULT_POLICY, {"network": {"allow": ["10.0.0.5", text]}})

    stored = receive({"network": {"mode": "allowlist", "allow": [text]}})
    assert stored.not_understood == ()
    assert overlay(stored.policy, {"resources": {"cpuSeconds": 5}}).network.allow == (text,)


def test_lists_of_ports_count_as_the_ranges_that_they_are() -> None:
    several = [f"10.0.{n >> 8}.{n & 255}:1,3,5" for n in range(MOST_ENTRIES // 3)]
    assert len(overlay(DEFAULT_POLICY, {"network": {"allow": several}}).network.entries) == MOST_ENTRIES - 1

    with pytest.raises(PolicyError, match=r"addresses with 16,386 ranges of ports are too many"):
        overlay(DEFAULT_POLICY, {"network": {"allow": [*several, "10.1.0.1:1,3,5"]}})


def test_of_ten_thousand_names_each_is_read_once() -> None:
    allow = [f"host{n}.example.com:443,8443" for n in range(10_000)]

    network = overlay(DEFAULT_POLICY, {"network": {"allow": allow}}).network

    assert len(network.names) == 10_000
    assert all(one is again for one, again in zip(network.names, network.names, strict=True))


def test_what_came_later_is_sent_only_where_it_is_not_the_default() -> None:
    wire = DEFAULT_POLICY.to_wire()
    assert "checkServerName" not in wire["network"]
    assert "needsRequired" not in wire

    policy = overlay(DEFAULT_POLICY, {"network": {"checkServerName": False}, "needsRequired": True})
    wire = policy.to_wire()
    assert wire["network"]["checkServerName"] is False
    assert wire["needsRequired"] is True
    assert receive(wire).policy == policy
    assert overlay(policy, {"network": {"checkServerName": True}, "needsRequired": False}) == DEFAULT_POLICY


def test_what_is_not_understood_of_the_new_fields_is_taken_as_the_strictest() -> None:
    received = receive({"network": {"checkServerName": "sometimes"}, "needsRequired": "perhaps"})

    assert received.policy.network.check_server_name
    assert received.policy.needs_required
    assert received.not_understood == ("network.checkServerName", "needsRequired")
