"""The run's own resolver, without sockets: what hostile questions and hostile answers come to."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest
import ringfence.sandbox.egress.relaying as package
from hypothesis import example, given
from hypothesis import strategies as st
from ringfence.sandbox.egress.relaying import resolving
from ringfence.sandbox.egress.relaying.resolv_conf import nameservers
from ringfence.sandbox.egress.relaying.resolving import Lookup, Reply, read_query

ALLOWED = ("api.example.com", "db", "xn--bcher-kva.example")


class Names:
    """Lists names, and keeps what it was asked for."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.asked: list[str] = []

    def permits_name(self, name: str) -> bool:
        self.asked.append(name)
        return name in self._names


def query(name: str | dns.name.Name, kind: str = "A", **more: object) -> bytes:
    return dns.message.make_query(name, kind, **more).to_wire()  # type: ignore[arg-type]


def lookup(name: str = "api.example.com", kind: str = "A", *, tcp: bool = False, **more: object) -> Lookup:
    found = read_query(query(name, kind, **more), Names(*ALLOWED), tcp=tcp)
    assert isinstance(found, Lookup)
    return found


def reply(data: bytes, *, tcp: bool = False) -> Reply:
    found = read_query(data, Names(*ALLOWED), tcp=tcp)
    assert isinstance(found, Reply)
    return found


def rcode(data: bytes) -> str:
    return dns.rcode.to_text(dns.message.from_wire(reply(data).wire).rcode())


def header(flags: int = 0x0100, *counts: int) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, *(counts or (1, 0, 0, 0)))


QUESTION = b"\3api\7example\3com\0\0\1\0\1"
OPTIONS = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)


# What is asked


def test_an_allowed_name_is_looked_up_in_lower_case_and_echoed_as_it_was_written() -> None:
    found = lookup("aPi.eXample.COM")

    assert (found.name, found.family, found.rdtype) == ("api.example.com", 4, "A")
    answer = dns.message.from_wire(resolving.answer_addresses(found, ["192.0.2.1"], 60, exists=True))
    assert answer.question[0].name.labels[:2] == (b"aPi", b"eXample")
    assert answer.answer[0].name.labels[:2] == (b"aPi", b"eXample")


@pytest.mark.parametrize("name", ["xn--bcher-kva.example", "db", "api.example.com."])
def test_names_of_every_form_that_may_be_allowed_are_looked_up(name: str) -> None:
    assert lookup(name).name == name.removesuffix(".")


@pytest.mark.parametrize(
    "name",
    [
        "other.example.com",
        "example.com",
        "x.api.example.com",
        "api.example.com.evil.test",
        ".",
        "*.example.com",
        "localhost",
        "1.0.0.127.in-addr.arpa",
        "127.0.0.1",
    ],
)
@pytest.mark.parametrize("kind", ["A", "AAAA", "MX", "HTTPS"])
def test_what_is_not_allowed_is_refused_and_told(name: str, kind: str) -> None:
    found = reply(query(name, kind))

    answer = dns.message.from_wire(found.wire)
    assert answer.rcode() == dns.rcode.REFUSED
    assert not answer.answer
    assert found.refused == (name if name == "." else name.removesuffix("."))


@pytest.mark.parametrize(
    "labels",
    [
        (b"api.example.com", b""),
        (b"api.example", b"com", b""),
        (b"api\0", b"example", b"com", b""),
        (b"api", b"example", b"com\0", b""),
        (b"api", b"example", b"com ", b""),
        (b"api\n", b"example", b"com", b""),
        ("bücher".encode(), b"example", b""),
        (b"api", b"example", b"com\\", b""),
        (b"%61pi", b"example", b"com", b""),
    ],
)
def test_a_name_with_odd_bytes_is_none_that_is_allowed(labels: tuple[bytes, ...]) -> None:
    names = Names(*ALLOWED, "api\0.example.com")
    found = read_query(query(dns.name.Name(labels)), names)

    assert isinstance(found, Reply)
    assert found.refused is not None
    assert found.refused.isascii()
    assert found.refused.isprintable()
    assert names.asked == []


@pytest.mark.parametrize("name", ["1.2.3.4", "10.1", "2130706433", "0x7f.1", "0x7f000001", "db.0x", "api.7"])
def test_what_the_host_would_read_as_an_address_is_no_name_even_if_it_were_allowed(name: str) -> None:
    found = read_query(query(name), Names(name))

    assert isinstance(found, Reply)
    assert found.refused == name


@pytest.mark.parametrize("kind", ["SRV", "TXT", "TLSA", "URI"])
def test_records_of_services_are_those_of_the_name_that_has_them(kind: str) -> None:
    assert lookup("_ldap._tcp.api.example.com", kind).rdtype == kind

    assert reply(query("_a._b._c.api.example.com", kind)).refused
    assert reply(query("_ldap._tcp.other.example.com", kind)).refused
    assert reply(query("ldap._tcp.api.example.com", kind)).refused
    assert reply(query("_ldap._tcp.api.example.com", "A")).refused


@pytest.mark.parametrize("kind", ["CNAME", "MX", "NS", "SOA", "TXT", "SRV", "CAA", "NAPTR", "SSHFP", "TLSA"])
def test_other_records_of_an_allowed_name_are_looked_up(kind: str) -> None:
    found = lookup(kind=kind)

    assert (found.family, found.rdtype) == (None, kind)


def test_records_that_would_lead_clients_elsewhere_are_none() -> None:
    for kind in ("HTTPS", "SVCB"):
        answer = dns.message.from_wire(reply(query("api.example.com", kind)).wire)
        assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])


@pytest.mark.parametrize("kind", ["ANY", "AXFR", "IXFR", "PTR", "OPT", "TSIG", "TYPE65000", "NULL", "DNSKEY"])
def test_other_types_are_refused_though_the_name_is_allowed(kind: str) -> None:
    wire = header() + b"\3api\7example\3com\0" + struct.pack("!HH", dns.rdatatype.from_text(kind), 1)

    assert rcode(wire) == "REFUSED"


@pytest.mark.parametrize("rdclass", [0, 3, 4, 254, 255])
def test_other_classes_are_refused(rdclass: int) -> None:
    assert rcode(header() + QUESTION[:-2] + struct.pack("!H", rdclass)) == "REFUSED"


@pytest.mark.parametrize("opcode", range(1, 16))
def test_what_is_no_query_is_not_implemented(opcode: int) -> None:
    assert reply(header(opcode << 11) + QUESTION).wire[3] & 15 == dns.rcode.NOTIMP


@pytest.mark.parametrize("data", [b"", b"\0" * 11, header(0x8180) + QUESTION])
def test_what_is_no_question_at_all_gets_no_answer(data: bytes) -> None:
    assert read_query(data, Names(*ALLOWED)) is None


@pytest.mark.parametrize(
    "data",
    [
        header(0x0100, 0, 0, 0, 0),
        header(0x0100, 2, 0, 0, 0) + QUESTION + QUESTION,
        header(0x0100, 2, 0, 0, 0) + QUESTION + b"\5other\0\0\1\0\1",
        header(0x0100, 65535, 0, 0, 0) + QUESTION,
        header(0x0100, 1, 1, 0, 0) + QUESTION,
        header(0x0100, 1, 0, 0, 2) + QUESTION + OPTIONS * 2,
        header(0x0100, 1, 0, 0, 1) + QUESTION + OPTIONS[:-1],
        header(0x0100, 1, 0, 0, 1) + QUESTION + b"\0" + struct.pack("!HHIH", 250, 255, 0, 0),
        header() + QUESTION + b"x",
        header() + QUESTION[:-1],
        header() + QUESTION + OPTIONS,
        header() + b"\xc0\x0c\0\1\0\1",
        header() + b"\xc0\x0e\xc0\x0c\0\1\0\1",
        header() + b"\3api\xc0\x0c\0\1\0\1",
        header() + b"\3api\xc0\x05\0\1\0\1",
        header() + b"\x40api\0\0\1\0\1",
        header() + b"\x3fapi",
        header() + b"\1a" * 200 + b"\0\0\1\0\1",
        header(0x0100, 1, 0, 0, 1) + QUESTION + OPTIONS[:-2] + struct.pack("!H", 5000) + b"\0" * 5000,
    ],
)
def test_malformed_questions_are_told_so(data: bytes) -> None:
    found = reply(data)

    assert found.wire[:2] == data[:2]
    assert found.wire[3] & 15 == dns.rcode.FORMERR
    assert found.refused is None


def test_options_that_nobody_knows_and_broken_ones_do_no_harm() -> None:
    for content in (b"\0\x08\0\x01\xff", b"\xff\xff\0\x03abc", b"\0\x08\xff\xff"):
        wire = (
            header(0x0100, 1, 0, 0, 1) + QUESTION + OPTIONS[:-2] + struct.pack("!H", len(content)) + content
        )
        assert isinstance(read_query(wire, Names(*ALLOWED)), Lookup)


def test_an_unknown_version_of_edns_is_told_so() -> None:
    assert (
        rcode(header(0x0100, 1, 0, 0, 1) + QUESTION + struct.pack("!BHHBBHH", 0, 41, 1232, 0, 1, 0, 0))
        == "BADVERS"
    )


@given(st.binary(max_size=600), st.booleans())
@example(header() + QUESTION, False)
def test_any_bytes_are_answered_with_nothing_or_looked_up_for_an_allowed_name(data: bytes, tcp: bool) -> None:
    found = read_query(data, Names(*ALLOWED), tcp=tcp)

    _holds(found, data)


@given(
    st.integers(0, 65535),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.lists(
        st.sampled_from([b"api", b"API", b"example", b"com", b"db", b"a.b", b"_tcp", b"\0"]), max_size=6
    ),
    st.integers(0, 300),
    st.binary(max_size=40),
)
def test_nearly_good_questions_are_looked_up_for_allowed_names_alone(
    flags: int, counts: list[int], labels: list[bytes], kind: int, rest: bytes
) -> None:
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    data = header(flags, *counts) + name + struct.pack("!HH", kind, 1) + rest

    _holds(read_query(data, Names(*ALLOWED)), data)


def _holds(found: Reply | Lookup | None, data: bytes) -> None:
    if isinstance(found, Lookup):
        labels = found.name.split(".")
        while labels[0].startswith("_"):
            assert found.family is None
            del labels[0]
        assert ".".join(labels) in ALLOWED
        # The question that goes outside is made of the name alone.
        asked = dns.message.from_wire(resolving.upstream_query(found)).question[0]
        assert asked.name.to_text(omit_final_dot=True) == found.name
    elif found is not None:
        assert found.wire[:2] == data[:2]
        assert not dns.message.from_wire(found.wire).answer


# What is answered


def test_addresses_of_the_family_that_was_asked_for_are_answered_once_and_no_others() -> None:
    given_ = ["192.0.2.1", "2001:db8::1", "192.0.2.1", "fe80::1%eth0", "nonsense", "192.0.2.2"]

    for kind, expected in (("A", ["192.0.2.1", "192.0.2.2"]), ("AAAA", ["2001:db8::1"])):
        answer = dns.message.from_wire(resolving.answer_addresses(lookup(kind=kind), given_, 30, exists=True))
        assert answer.flags & dns.flags.RA
        assert [record.to_text() for record in answer.answer[0]] == expected
        assert answer.answer[0].ttl == 30


@pytest.mark.parametrize(("exists", "expected"), [(True, dns.rcode.NOERROR), (False, dns.rcode.NXDOMAIN)])
def test_a_name_without_addresses_is_there_or_is_not(exists: bool, expected: dns.rcode.Rcode) -> None:
    answer = dns.message.from_wire(resolving.answer_addresses(lookup(), ["2001:db8::1"], 30, exists=exists))

    assert (answer.rcode(), answer.answer) == (expected, [])


@pytest.mark.parametrize("ttl", [-1, 0, 2**31, 2**40])
def test_any_time_to_live_can_be_answered(ttl: int) -> None:
    answer = dns.message.from_wire(resolving.answer_addresses(lookup(), ["192.0.2.1"], ttl, exists=True))

    assert 0 <= answer.answer[0].ttl <= 86_400


MANY = [f"192.0.2.{n}" for n in range(200)]


@pytest.mark.parametrize(
    ("edns", "tcp", "most", "answered"),
    [
        ({}, False, 512, 0),
        ({"use_edns": 0, "payload": 600}, False, 600, 0),
        ({"use_edns": 0, "payload": 1}, False, 512, 0),
        ({"use_edns": 0, "payload": 1232}, False, 1232, resolving.MOST_ADDRESSES),
        ({"use_edns": 0, "payload": 65535}, False, 4096, resolving.MOST_ADDRESSES),
        ({}, True, 65535, resolving.MOST_ADDRESSES),
    ],
)
def test_an_answer_is_no_longer_than_its_asker_takes(
    edns: dict[str, int], tcp: bool, most: int, answered: int
) -> None:
    wire = resolving.answer_addresses(lookup("api.example.com", "A", tcp=tcp, **edns), MANY, 60, exists=True)

    assert len(wire) <= most
    assert resolving.is_truncated(wire) is (answered == 0)
    answer = dns.message.from_wire(wire)
    assert sum(len(records) for records in answer.answer) == answered
    assert answer.edns == (0 if edns else -1)


def test_a_failure_is_told_as_one() -> None:
    assert dns.message.from_wire(resolving.fail(lookup())).rcode() == dns.rcode.SERVFAIL


# What name servers answer


def answered(
    found: Lookup, *records: str, rcode: int = 0, section: str = "ANSWER", number: int | None = None
) -> bytes:
    head = f"id {found.upstream_id if number is None else number}\nopcode QUERY\nflags QR RD RA\n"
    code = f"rcode {dns.rcode.to_text(dns.rcode.Rcode(rcode))}\n"
    text = f"{head}{code};QUESTION\n{found.name}. IN {found.rdtype}\n;{section}\n" + "\n".join(records)
    return dns.message.from_text(text).to_wire()


def passed(found: Lookup, response: bytes) -> list[str]:
    answer = dns.message.from_wire(resolving.answer_records(found, response))
    assert not answer.authority
    assert not answer.additional
    return [line for records in answer.answer for line in records.to_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("MX", "10 mail.example.net."),
        ("TXT", '"v=spf1 -all" "more"'),
        ("SRV", "1 2 5432 db.example.net."),
        ("CAA", '0 issue "ca.example.net"'),
        ("NS", "ns.example.net."),
        ("SOA", "ns.example.net. root.example.net. 1 2 3 4 5"),
        ("CNAME", "other.example.net."),
        ("NAPTR", '1 2 "S" "SIP+D2U" "" _sip._udp.example.net.'),
        ("URI", '1 2 "https://example.net/"'),
    ],
)
def test_records_are_passed_as_they_are(kind: str, data: str) -> None:
    found = lookup(kind=kind)

    assert passed(found, answered(found, f"api.example.com. 60 IN {kind} {data}")) == [
        f"api.example.com. 60 IN {kind} {data}"
    ]


def test_aliases_are_followed_and_what_is_beside_them_is_dropped() -> None:
    found = lookup(kind="TXT")
    chain = [
        "api.example.com. 60 IN CNAME one.example.net.",
        "one.example.net. 50 IN CNAME two.example.net.",
        'two.example.net. 40 IN TXT "here"',
    ]
    beside = ['three.example.net. 60 IN TXT "not asked for"', "two.example.net. 60 IN A 192.0.2.1"]

    assert passed(found, answered(found, *reversed(chain), *beside)) == chain


def test_aliases_in_a_circle_end() -> None:
    found = lookup(kind="TXT")
    circle = [
        "api.example.com. 60 IN CNAME one.example.net.",
        "one.example.net. 60 IN CNAME api.example.com.",
    ]

    assert passed(found, answered(found, *circle)) == circle


@pytest.mark.parametrize("section", ["AUTHORITY", "ADDITIONAL"])
def test_other_sections_are_not_passed(section: str) -> None:
    found = lookup(kind="TXT")

    assert passed(found, answered(found, 'api.example.com. 60 IN TXT "x"', section=section)) == []


def test_a_name_that_is_not_there_is_told_so_and_other_codes_are_failures() -> None:
    found = lookup(kind="MX")

    for code, expected in ((3, dns.rcode.NXDOMAIN), (2, dns.rcode.SERVFAIL), (5, dns.rcode.SERVFAIL)):
        answer = dns.message.from_wire(resolving.answer_records(found, answered(found, rcode=code)))
        assert answer.rcode() == expected


def test_an_answer_to_another_question_is_none() -> None:
    found = lookup(kind="MX")
    other = Lookup("db", None, "MX", lookup("db", "MX").query, 512, found.upstream_id)

    assert resolving.is_answer(found, answered(found))
    assert not resolving.is_answer(found, answered(found, number=found.upstream_id ^ 1))
    assert not resolving.is_answer(found, answered(other))
    assert not resolving.is_answer(found, resolving.upstream_query(found))
    answer = resolving.answer_records(found, answered(other, "db. 60 IN MX 1 x."))
    assert dns.message.from_wire(answer).rcode() == dns.rcode.SERVFAIL


def test_an_answer_that_points_in_circles_fails_at_once() -> None:
    """Each name leads over thousands of others, which would take minutes to follow."""
    found = lookup(kind="MX")
    start = answered(found)
    pointers = b"".join(struct.pack("!H", 0xC000 | (len(start) + 12 + 2 * n)) for n in range(8000))
    bomb = (
        start[:6]
        + struct.pack("!H", 500)
        + start[8:]
        + b"\0"
        + struct.pack("!HHIH", 99, 1, 60, 16000)
        + pointers
    )
    bomb += (struct.pack("!H", 0xFFFE) + struct.pack("!HHIH", 15, 1, 60, 4) + b"\0\1\xff\xfe") * 400

    assert dns.message.from_wire(resolving.answer_records(found, bomb)).rcode() == dns.rcode.SERVFAIL


@given(
    st.binary(max_size=400), st.integers(0, 4), st.sampled_from(["MX", "TXT", "SRV", "SOA", "NAPTR", "CAA"])
)
def test_whatever_a_name_server_answers_is_answered_with_what_was_asked_for(
    rest: bytes, count: int, kind: str
) -> None:
    found = lookup(kind=kind)
    start = answered(found)
    wire = resolving.answer_records(found, start[:6] + struct.pack("!H", count) + start[8:] + rest)

    answer = dns.message.from_wire(wire)
    assert all(dns.rdatatype.to_text(each.rdtype) in (kind, "CNAME") for each in answer.answer)
    assert resolving.answer_records(found, rest)


# Whom to ask, and from where


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("127.0.0.1",)),
        ("search x\nnameserver nonsense\n", ("127.0.0.1",)),
        ("# nameserver 192.0.2.9\nnameserver 127.0.0.53\noptions edns0\n", ("127.0.0.53",)),
        ("nameserver fe80::1%eth0\nnameserver\t2001:db8::1 x\n", ("fe80::1%eth0", "2001:db8::1")),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in range(9)), ("192.0.2.0", "192.0.2.1", "192.0.2.2")),
    ],
)
def test_name_servers_are_those_that_the_c_library_asks(text: str, expected: tuple[str, ...]) -> None:
    assert nameservers(text) == expected


def test_the_package_works_alone_with_dnspython_and_nothing_else() -> None:
    [directory] = package.__path__
    script = (
        "import sys\n"
        "from relaying import resolv_conf, resolving, server_name, tally\n"
        "import socket\n"
        "known = set(sys.stdlib_module_names) | {'relaying', 'dns', 'idna', '__main__'}\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - known))\n"
    )
    paths = [str(Path(directory).parent), str(Path(dns.__path__[0]).parent)]
    program = f"import sys; sys.path[:0] = {paths!r}\n" + script
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
