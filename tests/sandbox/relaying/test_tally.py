"""The record of what a run tried: true, and bounded."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox.egress.relaying.tally import MOST_ENTRIES, MOST_TEXT, Tally


def test_what_was_looked_up_is_told_with_how_often_and_what_came_of_it() -> None:
    tally = Tally()
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        tally.name("api.example.com", "answered", [address])
    tally.name("other.example.com", "refused")
    tally.name("none.example.com", "nxdomain")

    assert tally.to_json()["names"] == [
        {"name": "api.example.com", "answered": ["192.0.2.1", "192.0.2.2"], "count": 3},
        {"name": "other.example.com", "answered": "refused", "count": 1},
        {"name": "none.example.com", "answered": "nxdomain", "count": 1},
    ]


def test_what_was_used_is_told_with_its_bytes_and_what_could_not_be_had_with_the_reason() -> None:
    tally = Tally()
    for _ in range(2):
        flow = tally.connected("192.0.2.1", 443, "tcp", name="api.example.com")
        flow.sent += 10
        flow.received += 100
    tally.failed("192.0.2.1", 443, "tcp", "timed out", name="api.example.com")
    tally.failed("192.0.2.1", 443, "tcp", "timed out", name="api.example.com")
    tally.connected("localhost", 8080, "tcp")

    where = {"name": "api.example.com", "address": "192.0.2.1", "port": 443, "protocol": "tcp"}
    assert tally.to_json()["used"] == [
        {**where, "connections": 2, "sent": 20, "received": 200},
        {**where, "connections": 0, "sent": 0, "received": 0, "failed": "timed out", "count": 2},
        {
            "address": "localhost",
            "port": 8080,
            "protocol": "tcp",
            "connections": 1,
            "sent": 0,
            "received": 0,
        },
    ]


def test_what_was_refused_is_told_with_why() -> None:
    tally = Tally()
    for _ in range(3):
        tally.refused("192.0.2.9", 22, "tcp", "not allowed")
    tally.refused("192.0.2.9", 22, "tcp", "server name x is not allowed", name="api.example.com")

    where = {"address": "192.0.2.9", "port": 22, "protocol": "tcp"}
    assert tally.to_json()["refused"] == [
        {**where, "count": 3, "why": "not allowed"},
        {"name": "api.example.com", **where, "count": 1, "why": "server name x is not allowed"},
    ]


def test_a_record_is_bounded_and_says_how_much_it_left_out() -> None:
    tally = Tally()
    for n in range(MOST_ENTRIES + 7):
        tally.name(f"n{n}.test", "answered", [f"192.0.2.{address}" for address in range(200)])
        tally.connected("192.0.2.1", n, "tcp").sent += 1
        tally.refused("192.0.2.1", n, "udp", "not allowed")
    tally.name("n0.test", "answered")
    tally.failed("192.0.2.1", 0, "tcp", "refused")

    told = tally.to_json()
    assert [len(told[each]) for each in ("names", "used", "refused")] == [MOST_ENTRIES] * 3
    assert told["more"] == {"names": 7, "used": 8, "refused": 7}
    assert told["names"][0]["count"] == 2
    assert len(json.dumps(told)) < 200_000


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=400))
def test_hostile_text_is_kept_as_short_printable_ascii(name: str, address: str, why: str) -> None:
    tally = Tally()
    tally.name(name, "answered", [address])
    tally.connected(address, 1, "icmp", name=name)
    tally.refused(address, 1, "udp", why, name=name)

    def texts(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for each in value.values() for text in texts(each)]
        if isinstance(value, list):
            return [text for each in value for text in texts(each)]
        return [value] if isinstance(value, str) else []

    for text in texts(tally.to_json()):
        assert text.isascii()
        assert text.isprintable() or not text
        assert len(text) <= MOST_TEXT
