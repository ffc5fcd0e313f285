"""Suggestions are as narrow as what was tried, can be written as they are, and name whoever asked for them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.sandbox import DEFAULT_POLICY, SandboxPolicy, overlay
from ringfence.sandbox.policy import Needs
from ringfence.sandbox.policy.destinations import LocalEntry, NameEntry, parse_entry
from ringfence_health_checks.destinations.entries import (
    MOST_PORTS,
    Suggestion,
    Unfit,
    allowing,
    not_allowed,
    suggested,
)
from ringfence_health_checks.destinations.policy_preview import Needing, expected_of, lost_by
from ringfence_health_checks.destinations.table import Wish
from ringfence_health_checks.destinations.tried import Destination, Tried
from ringfence_script_packages.service import Fate, ProposedPolicy

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DISK, WEB = uuid.UUID(int=1), uuid.UUID(int=2)


def wish(
    host: str,
    port: int = 443,
    *,
    protocol: str = "tcp",
    outcome: Tried = Tried.REFUSED,
    of: uuid.UUID = DISK,
    tries: int = 1,
) -> Wish:
    name = "disk" if of == DISK else "web"
    return Wish(of, name, Destination(outcome, protocol, host, port), tries, 1, 1, NOW)


def used(host: str, port: int = 443, **more: Any) -> Wish:
    return wish(host, port, outcome=Tried.USED, **more)


def entries(*wishes: Wish) -> list[str]:
    return [one.entry for one in suggested(wishes)[0]]


def unfit(*wishes: Wish) -> list[Unfit]:
    found, left = suggested(wishes)
    assert found == []
    return left


def policy(**network: Any) -> SandboxPolicy:
    return overlay(DEFAULT_POLICY, {"network": network})


def test_ports_of_one_host_are_one_entry_and_the_most_tried_comes_first() -> None:
    assert entries(
        wish("api.example.com", 8443),
        wish("api.example.com", 443),
        wish("db", 5432, tries=9),
        wish("2001:db8::1", 53, protocol="udp"),
    ) == ["db:5432", "api.example.com:443,8443", "[2001:db8::1]:53"]


def test_each_is_told_with_who_asked_for_it_and_how_often() -> None:
    [found], _ = suggested(
        [
            wish("db", 5432, tries=2),
            wish("db", 5433, tries=1),
            wish("db", 5432, of=WEB, tries=7),
            used("db", 5432, of=WEB),
        ]
    )
    assert [(asker.check, asker.tries) for asker in found.askers] == [("web", 8), ("disk", 3)]
    assert found.tries == 11
    assert found.outcomes == {Tried.USED, Tried.REFUSED}


def test_a_name_that_was_only_looked_up_has_a_guessed_port() -> None:
    [found], _ = suggested([wish("api.example.com", 0, protocol="dns")])
    assert (found.entry, found.guessed) == ("api.example.com:443", True)
    [found], _ = suggested([wish("api.example.com", 0, protocol="dns"), wish("api.example.com", 8443)])
    assert (found.entry, found.guessed) == ("api.example.com:8443", False)


def test_services_of_the_machine_itself_are_localhost_with_a_port() -> None:
    assert entries(wish("localhost", 8080), wish("localhost", 5432)) == ["localhost:5432,8080"]
    assert unfit(wish("localhost", 0, protocol="icmp"), wish("localhost", 0, protocol="dns"))


def test_a_ping_alone_opens_no_host() -> None:
    [left] = unfit(wish("192.0.2.1", 0, protocol="icmp"))
    assert "only pinged" in left.why
    assert entries(wish("192.0.2.1", 0, protocol="icmp"), wish("192.0.2.1", 22)) == ["192.0.2.1:22"]


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "127.0.0.1",
        "127.0.0.53",
        "::1",
        "0.0.0.0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fe80::1",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
    ],
)
def test_metadata_loopback_and_the_like_are_never_suggested(host: str) -> None:
    assert unfit(wish(host, 80))


@pytest.mark.parametrize(
    "host",
    [
        "*.example.com",
        "*",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "::/0",
        "unix:/run/docker.sock",
        "localhost.localdomain.localhost",
        "a b",
        "api.example.com:22",
        "api.example.com,evil.example.com",
        "0x7f.1",
        "1.2.3",
        "",
        "x" * 255,
        "api\x1b[2J",
        "b\u00fccher.example",
    ],
)
def test_a_name_that_a_script_made_up_never_means_more_than_one_machine(host: str) -> None:
    assert unfit(wish(host, 80))


def test_a_scan_is_told_and_not_suggested() -> None:
    [left] = unfit(*(wish("192.0.2.1", port) for port in range(1, MOST_PORTS + 2)))
    assert "as a scan does" in left.why


HOSTS = st.sampled_from(
    ["localhost", "db", "api.example.com", "192.0.2.1", "2001:db8::1", "10.0.0.0/8"]
) | st.text(max_size=40)
WISHES = st.lists(
    st.builds(
        wish,
        HOSTS,
        st.integers(0, 65535),
        protocol=st.sampled_from(["tcp", "udp", "icmp", "dns"]),
        outcome=st.sampled_from(Tried),
    ),
    max_size=8,
)


@given(wishes=WISHES)
def test_whatever_was_tried_every_suggestion_can_be_written_and_means_one_machine(wishes: list[Wish]) -> None:
    found, _ = suggested(wishes)
    change = allowing(DEFAULT_POLICY.network, found)
    if change is not None:
        overlay(DEFAULT_POLICY, {"network": change})
    for one in found:
        for meant in parse_entry(one.entry):
            match meant:
                case NameEntry(_, wildcard, ports):
                    assert not wildcard
                    assert ports
                case LocalEntry(ports):
                    assert ports
                case _:
                    assert meant.network.num_addresses == 1  # type: ignore[union-attr]
                    assert meant.ports is not None  # type: ignore[union-attr]


# Under a policy -----------------------------------------------------------------------------------------


def test_what_the_policy_allows_by_now_is_not_suggested_again() -> None:
    wishes = [
        wish("api.example.com", 443),
        wish("new.example.com", 0, protocol="dns"),
        wish("192.0.2.1", 22),
        used("192.0.2.9", 22),
        wish("localhost", 8080),
    ]
    network = policy(allow=["*.example.com:443", "192.0.2.0/24", "localhost:8000-9000"]).network
    assert not_allowed(network, wishes) == []
    assert len(not_allowed(DEFAULT_POLICY.network, wishes)) == 4


def test_a_patch_adds_to_the_list_and_never_makes_one_hold_that_does_not() -> None:
    suggestion = Suggestion("db:5432", (), frozenset())
    had = ["10.0.0.5:443"]
    assert allowing(policy(allow=had).network, [suggestion]) == {
        "mode": "allowlist",
        "allow": ["10.0.0.5:443", "db:5432"],
    }
    for mode in ("deny", "unrestricted"):
        assert allowing(policy(mode=mode, allow=had).network, [suggestion]) == {
            "mode": "allowlist",
            "allow": ["db:5432"],
        }
    assert allowing(DEFAULT_POLICY.network, []) is None


def test_where_everything_is_allowed_what_is_used_makes_the_list() -> None:
    network = policy(mode="unrestricted").network
    assert entries(*not_allowed(network, [used("api.example.com"), wish("db", 5432)])) == [
        "api.example.com:443",
        "db:5432",
    ]


# What a change would take away --------------------------------------------------------------------------


def lost(before: SandboxPolicy, after: SandboxPolicy, *wishes: Wish, needs: Needs | None = None) -> list[str]:
    return [one.destination.host for one in lost_by(ProposedPolicy(before, after), needs, wishes)]


def test_a_check_loses_what_it_used_and_could_use_no_more() -> None:
    wide = policy(allow=["*.example.com", "192.0.2.0/24:22", "localhost:8080"])
    wishes = [
        used("api.example.com"),
        used("192.0.2.1", 22),
        used("localhost", 8080),
        used("gone.example.org"),
    ]
    assert lost(wide, policy(mode="deny"), *wishes) == ["api.example.com", "192.0.2.1", "localhost"]
    assert lost(wide, policy(allow=["api.example.com:443", "192.0.2.1"]), *wishes) == ["localhost"]
    assert lost(wide, wide, *wishes) == []


def test_where_there_is_no_sandbox_nothing_is_lost() -> None:
    off = overlay(DEFAULT_POLICY, {"enabled": False})
    wide = policy(mode="unrestricted")
    assert lost(off, DEFAULT_POLICY, used("api.example.com")) == []
    assert lost(wide, off, used("api.example.com")) == []
    assert lost(wide, DEFAULT_POLICY, used("api.example.com")) == ["api.example.com"]


def test_a_check_without_needs_loses_all_where_they_are_required() -> None:
    before = policy(allow=["api.example.com:443"])
    after = before.model_copy(update={"needs_required": True})
    assert lost(before, after, used("api.example.com")) == ["api.example.com"]
    assert lost(before, after, used("api.example.com"), needs=Needs(network=("api.example.com:443",))) == []


def test_a_check_that_needs_more_than_the_policy_would_allow_is_refused() -> None:
    wide, narrow = policy(allow=["api.example.com:443"]), DEFAULT_POLICY
    check = Needing(DISK, "disk", Needs(network=("api.example.com:443",)))
    expected = expected_of(ProposedPolicy(wide, narrow), check, [used("api.example.com")])
    assert (expected.fate, expected.was, expected.breaks) == (Fate.REFUSED, Fate.RUN, True)
    assert expected.reasons == ['the policy would lack network.allow: "api.example.com:443"']
    already = expected_of(ProposedPolicy(narrow, policy(mode="deny")), check, [])
    assert (already.fate, already.breaks) == (Fate.REFUSED, False)
    fine = expected_of(ProposedPolicy(narrow, wide), check, [])
    assert (fine.fate, fine.reasons) == (Fate.RUN, [])
