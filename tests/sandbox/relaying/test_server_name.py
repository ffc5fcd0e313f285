"""Which server a TLS client greets, in whatever pieces its greeting comes."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.egress.relaying.server_name import (
    MOST_BYTES,
    Found,
    Greeting,
    NoName,
    NotTls,
    ServerName,
    Undecided,
    Unreadable,
)


def greet(name: str | None) -> bytes:
    """The greeting of a real client."""
    context = ssl.create_default_context()
    context.check_hostname = False
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def fed(*pieces: bytes) -> Found:
    greeting = Greeting()
    for piece in pieces:
        found = greeting.feed(piece)
    return found


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size) + content


def names(*listed: bytes, kind: int = 0) -> bytes:
    return struct.pack("!H", 0) + vector(
        2, vector(2, b"".join(bytes([kind]) + vector(2, each) for each in listed))
    )


def hello(*extensions: bytes, rest: bytes = b"") -> bytes:
    """The body of a greeting with these extensions."""
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\1") + vector(1, b"\0")
    body += vector(2, b"".join(extensions)) + rest
    return b"\1" + vector(3, body)


def records(message: bytes, size: int = 16_384) -> bytes:
    return b"".join(
        b"\x16\3\1" + vector(2, message[place : place + size]) for place in range(0, len(message), size)
    )


REAL = greet("api.example.com")


def test_a_real_client_is_understood() -> None:
    assert fed(REAL) == ServerName("api.example.com")
    assert fed(greet(None)) == NoName()


def test_the_name_is_known_as_soon_as_it_is_all_there_however_it_comes() -> None:
    greeting = Greeting()
    found = [greeting.feed(REAL[n : n + 1]) for n in range(len(REAL))]

    assert set(found[:-1]) == {Undecided()}
    assert found[-1] == ServerName("api.example.com")
    assert greeting.feed(b"what comes then") == found[-1]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 100])
def test_a_greeting_may_be_split_over_records(size: int) -> None:
    assert fed(records(REAL[5:], size)) == ServerName("api.example.com")


@pytest.mark.parametrize("version", [b"\0\1", b"\2\0", b"\4\3", b"\x0f\xff"])
@pytest.mark.parametrize("before", [b"", b"\x15\4\3\0\2\1\0"], ids=["", "after a warning"])
def test_a_greeting_of_a_version_that_lax_servers_take_is_not_passed_over(
    version: bytes, before: bytes
) -> None:
    message = hello(names(b"two.example"))
    data = before + b"\x16" + version + vector(2, message)

    assert fed(data) == Unreadable()
    assert fed(*(bytes([byte]) for byte in data)) == Unreadable()


@pytest.mark.parametrize(
    "data",
    [b"\x16\0\4\0\x0bexample.com", b"\x16\0\0\0\0hello", b"\x16\x10\1\0\5\1", b"\x17\4\3\0\5\1"],
)
def test_what_begins_like_a_record_of_another_version_may_be_another_protocol(data: bytes) -> None:
    assert fed(data) == NotTls()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (b"API.Example.COM", "api.example.com"),
        (b"api.example.com.", "api.example.com"),
        (b"api.example.com\0.evil.test", "api.example.com\\000.evil.test"),
        (b"api example", "api\\032example"),
        ("bücher.test".encode(), "b\\195\\188cher.test"),
        (b"10.0.0.5", "10.0.0.5"),
    ],
)
def test_a_name_is_told_so_that_it_cannot_be_taken_for_another(said: bytes, meant: str) -> None:
    assert fed(records(hello(names(said)))) == ServerName(meant)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\x16\x10",
        b"\x80\x2e\1\3\1",
        b"\x15\5\1\0\0",
    ],
)
def test_other_protocols_are_none_of_this(data: bytes) -> None:
    assert fed(data) == NotTls()


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\3", b"\x16\3\1\0", REAL[:5], REAL[:-1]])
def test_the_beginning_of_a_greeting_decides_nothing(data: bytes) -> None:
    assert fed(data) == Undecided()


@pytest.mark.parametrize(
    "data",
    [
        records(b"\2" + vector(3, bytes(50))),
        b"\x16\3\1\0\0" + REAL,
        b"\x15\3\1\0\2\1\x5a" + REAL,
        b"\x14\3\3\0\1\1" + REAL,
        b"\x17\3\3\0\1x" + REAL,
        b"\x16\3\1\x40\x01",
        records(b"\1\0\0\1\0"),
        records(hello(names(b"api.example.com", b"other.example.com"))),
        records(hello(names(b"api.example.com"), names(b"other.example.com"))),
        records(hello(names(b"api.example.com", kind=1))),
        records(hello(names())),
        records(hello(names(b""))),
        records(hello(names(b"a" * 256))),
        records(hello(names(b"api.example.com"), rest=b"x")),
        records(hello(b"\0\0\xff\xff")),
        records(REAL[5:9], 4) + b"\x17\3\1\0\1x",
        records(hello(struct.pack("!H", 21) + vector(2, bytes(20_000)), names(b"api.example.com"))),
    ],
)
def test_what_begins_as_a_greeting_and_hides_its_name_is_told_apart(data: bytes) -> None:
    assert fed(data) == Unreadable()


@given(
    st.sampled_from([b"", b"\x16\3", b"\x16\3\1\0\x40\1\0\0\x3c"]),
    st.lists(st.binary(max_size=200), max_size=8),
)
def test_any_bytes_are_judged_and_looked_at_only_so_far(start: bytes, pieces: list[bytes]) -> None:
    greeting = Greeting()
    greeting.feed(start)
    for piece in pieces:
        greeting.feed(piece)

    assert not isinstance(greeting.feed(bytes(MOST_BYTES)), Undecided)


@given(st.integers(0, len(REAL) - 1), st.integers(0, 255), st.integers(0, len(REAL)))
def test_a_greeting_with_a_wrong_byte_is_judged_the_same_in_pieces(place: int, byte: int, cut: int) -> None:
    data = REAL[:place] + bytes([byte]) + REAL[place + 1 :]

    assert fed(data[:cut], data[cut:]) == fed(data)
