"""A run's own resolver: what a question is answered with, decided without any socket.

Threat: a script asks for names that the policy does not list, to reach them, to learn of them, or to carry data out in
them. It sends whatever bytes it likes. What comes from name servers may be a lie, too.
Mechanism: a question is read strictly, and only its name, type and size go on. A name that is not allowed is refused
before anything is asked outside. An answer is made anew: of it come only records of the type that was asked for, of the
name itself or of what its aliases (CNAME) lead to. Addresses are looked up by the host's own means, elsewhere.
Not covered: data that a script carries out in names below an allowed wildcard, to whoever runs the allowed domain.
"""

from __future__ import annotations

import ipaddress
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal, NamedTuple, Protocol

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.wire
from dns.rcode import Rcode
from dns.rdata import GenericRdata, Rdata
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from .tally import printable

MOST_ADDRESSES = 64
"""So many addresses does an answer name; what it does not name, nothing may open."""

_HEADER = struct.Struct("!HHHHHH")
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_OPTIONS = struct.Struct("!BHHBBHH")
"""The record by which EDNS is spoken (RFC 6891): owner, type, size, and three that say nothing here, and a length."""

_RESPONSE, _TRUNCATED, _RECURSE, _RECURSES = 0x8000, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_CODE = 0x000F

_MOST_QUERY = 4096
"""A question with every option that there is has a quarter of that."""

_PLAIN_ROOM, _MOST_ROOM, _STREAM_ROOM = 512, 4096, 65535
"""Bytes of an answer: by UDP without EDNS, by UDP at most, and by TCP."""

_UPSTREAM_ROOM = 1232
"""What passes every path whole, as resolvers agreed in 2020."""

_MOST_RECORDS = 512
_MOST_ALIASES = 16
_MOST_TTL = 86_400

_FAMILIES: Mapping[int, Literal[4, 6]] = {RdataType.A: 4, RdataType.AAAA: 6}
_WITH_NAMES: Mapping[int, type[Rdata]] = {
    RdataType.CNAME: CNAME,
    RdataType.MX: MX,
    RdataType.NAPTR: NAPTR,
    RdataType.NS: NS,
    RdataType.SOA: SOA,
    RdataType.SRV: SRV,
}
"""They hold names, which may point to elsewhere in their message, so they are read and written anew."""

_OPAQUE = frozenset({RdataType.CAA, RdataType.SSHFP, RdataType.TLSA, RdataType.TXT, RdataType.URI})
"""They are passed on as they are. (To read TXT, the library would load its cryptography.)"""

_NOTHING_OF = frozenset({RdataType.HTTPS, RdataType.SVCB})
"""They would lead clients to other names, ports and protocols, and to hide the name that they greet a server with."""

_OF_SERVICES = frozenset({RdataType.SRV, RdataType.TLSA, RdataType.TXT, RdataType.URI})
_MOST_SERVICE_LABELS = 2
"""Such records of a name stand below it, by labels that begin with `_` (RFC 8552): `_ldap._tcp.example.com`."""

_LABEL = re.compile(rb"[A-Za-z0-9_-]+")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


class Allowed(Protocol):
    """What the policy says of names."""

    def permits_name(self, name: str) -> bool:
        """Whether this name, in lower case, without a dot at its end, may be looked up."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered at once.

    Attributes:
        wire: the answer.
        refused: the name that is not allowed, in printable characters, if that is why.
    """

    wire: bytes
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class _Query:
    """What a question said that its answer repeats."""

    number: int
    flags: int
    name: dns.name.Name
    kind: RdataType
    speaks_edns: bool


@dataclass(frozen=True, slots=True)
class Lookup:
    """A question for an allowed name, to be looked up.

    Attributes:
        name: in lower case, without a dot at its end.
        family: of the addresses that it asks for; None if it asks for other records.
        rdtype: the type of records, as it is written.
        upstream_id: the number of the question that is asked of a name server.
    """

    name: str
    family: Literal[4, 6] | None
    rdtype: str
    query: _Query
    room: int
    upstream_id: int = field(default_factory=lambda: int.from_bytes(os.urandom(2)))


def read_query(data: bytes, allowed: Allowed, *, tcp: bool = False) -> Reply | Lookup | None:
    """What to do about a message to the resolver, whatever its bytes; None if it deserves no answer.

    By TCP, it comes without the two bytes of its length, and may be answered at length.
    """
    if len(data) < _HEADER.size:
        return None
    number, flags, *counts = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None
    if flags & _OPCODE:
        return Reply(_bare(number, flags, Rcode.NOTIMP))
    if len(data) > _MOST_QUERY or counts[:3] != [1, 0, 0] or counts[3] > 1:
        return Reply(_bare(number, flags, Rcode.FORMERR))
    asked = _read_question(data)
    if asked is None:
        return Reply(_bare(number, flags, Rcode.FORMERR))
    options = data[asked.end :]
    if len(options) != (_options_length(options) if counts[3] else 0):
        return Reply(_bare(number, flags, Rcode.FORMERR))
    query = _Query(number, flags, asked.name, asked.kind, speaks_edns=bool(counts[3]))
    room = _PLAIN_ROOM
    if query.speaks_edns:
        _, _, size, _, version, _, _ = _OPTIONS.unpack_from(options)
        if version != 0:
            return Reply(_answer(query, Rcode.BADVERS, room))
        room = min(max(size, _PLAIN_ROOM), _MOST_ROOM)
    return _judge(query, asked.rdclass, _STREAM_ROOM if tcp else room, allowed)


def _judge(query: _Query, rdclass: int, room: int, allowed: Allowed) -> Reply | Lookup:
    """What to do about a well-formed question."""
    text = _text(query.name)
    if text is None or not _is_allowed(text, query.kind, allowed):
        refused = printable(query.name.to_text(omit_final_dot=True)).lower()
        return Reply(_answer(query, Rcode.REFUSED, room), refused)
    if rdclass != RdataClass.IN:
        return Reply(_answer(query, Rcode.REFUSED, room))
    if query.kind in _NOTHING_OF:
        return Reply(_answer(query, Rcode.NOERROR, room))
    family = _FAMILIES.get(query.kind)
    if family is None and query.kind not in _WITH_NAMES and query.kind not in _OPAQUE:
        return Reply(_answer(query, Rcode.REFUSED, room))
    return Lookup(text, family, dns.rdatatype.to_text(query.kind), query, room)


def answer_addresses(lookup: Lookup, addresses: Iterable[str], ttl: int, *, exists: bool) -> bytes:
    """Answer with those of these addresses that are of the family that was asked for, `MOST_ADDRESSES` at most.

    Without any, `exists` says whether there is such a name.
    """
    records = dns.rrset.RRset(lookup.query.name, RdataClass.IN, lookup.query.kind)
    for text in addresses:
        address = _address(text)
        if address is None or address.version != lookup.family or len(records) == MOST_ADDRESSES:
            continue
        record = dns.rdata.from_wire(RdataClass.IN, lookup.query.kind, address.packed, 0, len(address.packed))
        records.add(record, _bounded_ttl(ttl))
    rcode = Rcode.NOERROR if records or exists else Rcode.NXDOMAIN
    return _answer(lookup.query, rcode, lookup.room, [records] if records else [])


def upstream_query(lookup: Lookup) -> bytes:
    """The question that a name server is asked for this one; by TCP, its length comes before it."""
    asked = _question(dns.name.from_text(lookup.name), lookup.query.kind)
    options = _OPTIONS.pack(0, RdataType.OPT, _UPSTREAM_ROOM, 0, 0, 0, 0)
    return _HEADER.pack(lookup.upstream_id, _RECURSE, 1, 0, 0, 1) + asked + options


def is_answer(lookup: Lookup, response: bytes) -> bool:
    """Whether this is an answer to `upstream_query`; anything else may be a forgery, and is best waited past."""
    if len(response) < _HEADER.size:
        return False
    number, flags, questions, *_ = _HEADER.unpack_from(response)
    if number != lookup.upstream_id or not flags & _RESPONSE or flags & _OPCODE or questions != 1:
        return False
    asked = _read_question(response)
    return asked is not None and (
        (asked.name, asked.kind, asked.rdclass)
        == (dns.name.from_text(lookup.name), lookup.query.kind, RdataClass.IN)
    )


def is_truncated(response: bytes) -> bool:
    """Whether an answer says that there is more, to be asked for by TCP."""
    return len(response) >= _HEADER.size and bool(_HEADER.unpack_from(response)[1] & _TRUNCATED)


def answer_records(lookup: Lookup, upstream_response: bytes) -> bytes:
    """Answer with what a name server answered: the records that were asked for, and the aliases that lead to them.

    If that is no answer to the question, or cannot be read, it is a failure.
    """
    if not is_answer(lookup, upstream_response):
        return fail(lookup)
    rcode = _HEADER.unpack_from(upstream_response)[1] & _CODE
    if rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return fail(lookup)
    try:
        found = _answers(upstream_response, lookup.query.kind)
    except dns.exception.DNSException:
        return fail(lookup)
    return _answer(lookup.query, Rcode.make(rcode), lookup.room, _chain(found, lookup.query))


def fail(lookup: Lookup, rcode: Rcode = Rcode.SERVFAIL) -> bytes:
    """Answer that there is no answer."""
    return _answer(lookup.query, rcode, lookup.room)


class _Question(NamedTuple):
    """A question, and where it ends."""

    name: dns.name.Name
    kind: RdataType
    rdclass: int
    end: int


def _read_question(data: bytes) -> _Question | None:
    """The question after a header; None if it cannot be read.

    Its name stands in full: nothing comes before it that it could point to.
    """
    parser = dns.wire.Parser(data, _HEADER.size)
    try:
        name = parser.get_name()
        kind, rdclass = parser.get_struct(_QUESTION.format)
    except dns.exception.DNSException:
        return None
    return _Question(name, RdataType.make(kind), rdclass, parser.current)


def _text(name: dns.name.Name) -> str | None:
    """A name as the policy writes it, if a host can have it: not one that is read as an address, and no odd bytes."""
    labels = name.labels[:-1]
    if not labels or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    if _NUMBER.fullmatch(labels[-1].decode()):
        return None
    return b".".join(labels).decode().lower()


def _is_allowed(name: str, kind: int, allowed: Allowed) -> bool:
    """Whether records of this type of this name may be asked for, as its own or as those of the name it serves."""
    for _ in range(_MOST_SERVICE_LABELS):
        if allowed.permits_name(name):
            return True
        first, _, rest = name.partition(".")
        if kind not in _OF_SERVICES or not first.startswith("_") or not rest:
            return False
        name = rest
    return allowed.permits_name(name)


def _options_length(data: bytes) -> int | None:
    """How long the record of EDNS is that begins here; None if none does."""
    if len(data) < _OPTIONS.size:
        return None
    owner, kind, *_, length = _OPTIONS.unpack_from(data)
    return _OPTIONS.size + length if owner == 0 and kind == RdataType.OPT else None


def _answers(response: bytes, kind: RdataType) -> dict[tuple[dns.name.Name, int], dns.rrset.RRset]:
    """The records of a type, and the aliases, in the answer section of a response; the other sections are not read.

    Raises:
        dns.exception.DNSException: if it is malformed, or has too many.
    """
    asked = _read_question(response)
    parser = dns.wire.Parser(response, asked.end if asked else len(response))
    count = _HEADER.unpack_from(response)[3]
    if count > _MOST_RECORDS:
        raise dns.exception.FormError
    found: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}
    for _ in range(count):
        owner = parser.get_name(decompress=True)
        rdtype, rdclass, ttl, length = parser.get_struct(_RECORD.format)
        with parser.restrict_to(length):
            if rdclass != RdataClass.IN or rdtype not in (kind, RdataType.CNAME):
                parser.get_remaining()
                continue
            reader = _WITH_NAMES.get(rdtype, GenericRdata)
            with dns.exception.ExceptionWrapper(dns.exception.FormError):  # type: ignore[no-untyped-call]
                record = reader.from_wire_parser(RdataClass.IN, RdataType.make(rdtype), parser)
        records = found.setdefault(
            (owner, rdtype), dns.rrset.RRset(owner, RdataClass.IN, RdataType.make(rdtype))
        )
        records.add(record, _bounded_ttl(ttl))
    return found


def _chain(
    found: Mapping[tuple[dns.name.Name, int], dns.rrset.RRset], query: _Query
) -> Iterator[dns.rrset.RRset]:
    """The aliases from the name that was asked for on, each once, and the records that they lead to."""
    name, seen = query.name, {query.name}
    for _ in range(_MOST_ALIASES):
        records = found.get((name, query.kind))
        if records is not None:
            yield records
            return
        aliases = found.get((name, RdataType.CNAME))
        if aliases is None:
            return
        yield aliases
        [alias, *_] = aliases
        if not isinstance(alias, CNAME) or alias.target in seen:
            return
        name = alias.target
        seen.add(name)


def _answer(query: _Query, rcode: Rcode, room: int, answers: Iterable[dns.rrset.RRset] = ()) -> bytes:
    """Write an answer. What has no room is left out whole, and the answer says so."""
    flags = _RESPONSE | (query.flags & _RECURSE) | _RECURSES
    options = b""
    if query.speaks_edns:
        options = _OPTIONS.pack(0, RdataType.OPT, _MOST_ROOM, rcode >> 4, 0, 0, 0)
    written = BytesIO(_HEADER.pack(0, 0, 0, 0, 0, 0) + _question(query.name, query.kind))
    written.seek(0, 2)
    compressed: dict[dns.name.Name, int] = {query.name: _HEADER.size}
    count = 0
    for records in answers:
        before = written.tell()
        more = records.to_wire(written, compressed, want_shuffle=False)
        if written.tell() + len(options) > room:
            written.truncate(before)
            flags |= _TRUNCATED
            break
        count += more
    header = _HEADER.pack(query.number, flags | (rcode & _CODE), 1, count, 0, bool(options))
    return header + written.getvalue()[_HEADER.size :] + options


def _bare(number: int, flags: int, rcode: Rcode) -> bytes:
    """An answer to what cannot be repeated."""
    return _HEADER.pack(number, _RESPONSE | (flags & (_OPCODE | _RECURSE)) | _RECURSES | rcode, 0, 0, 0, 0)


def _question(name: dns.name.Name, kind: RdataType) -> bytes:
    return _wire(name) + _QUESTION.pack(kind, RdataClass.IN)


def _wire(name: dns.name.Name) -> bytes:
    """A name in full, in its own letters."""
    return b"".join(bytes([len(label)]) + label for label in name.labels)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """What a record can say of an address: one with a zone has no meaning to others."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if isinstance(address, ipaddress.IPv6Address) and address.scope_id else address


def _bounded_ttl(ttl: int) -> int:
    return min(max(ttl, 0), _MOST_TTL)
