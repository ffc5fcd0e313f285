"""Addresses: what may be told of one, and that nothing of it is in what is told of a failure. Pure."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringfence_notifications.channels.address import (
    LOCAL,
    SHORTEST_PART,
    AddressError,
    filled,
    kind_of,
    secret_names,
    without,
)
from ringfence_notifications.delivery.plain_words import in_plain_words

MAIL = "mailto://carol%40corp:p%40ss-w0rd@mail.example.org:587?to=ops@example.org&from=rf@example.org"


def test_the_kind_of_an_address_is_all_that_is_known_of_it() -> None:
    assert kind_of(MAIL) == "mailto"
    assert kind_of("SLACK://a/b/c") == "slack"
    assert kind_of("{{ secrets.OPS }}") == "secret"


@pytest.mark.parametrize(
    "address", ["", "ops", "mail to://x", "//x", "{{ secrets.A }}{{ secrets.B }}", "a" * 5000]
)
def test_what_is_no_address_is_refused_without_being_quoted(address: str) -> None:
    with pytest.raises(AddressError) as raised:
        kind_of(address)
    assert address == "" or address not in str(raised.value)


@pytest.mark.parametrize("kind", sorted(LOCAL))
def test_what_acts_on_the_hosts_own_machine_is_refused(kind: str) -> None:
    with pytest.raises(AddressError, match="the machine that the host runs on"):
        kind_of(f"{kind}://")


def test_secrets_are_filled_in_as_parts_and_a_whole_address_as_it_is() -> None:
    address = "mailto://ann:{{ secrets.MAIL }}@example.org?key={{secrets.key-2}}"
    assert secret_names(address) == {"MAIL", "key-2"}
    assert (
        filled(address, {"MAIL": "p@ss/w", "key-2": "a&b"}) == "mailto://ann:p%40ss%2Fw@example.org?key=a%26b"
    )
    assert filled(" {{ secrets.OPS }} ", {"OPS": f"{MAIL}\n"}) == MAIL


def test_no_part_of_an_address_is_in_what_is_told_of_a_failure() -> None:
    said = (
        f"cannot send to {MAIL}: (535, b'carol@corp p@ss-w0rd') at mail.example.org for OPS@example.org, "
        f"url /?to={quote('ops@example.org', safe='')}"
    )
    told = without(MAIL, said)
    for part in ("carol", "p@ss", "w0rd", "mail.example", "ops@", "OPS", "ops%40", "rf@"):
        assert part not in told
    assert told.startswith("cannot send to ")


PARTS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=["Cc", "Cs"]),
    min_size=8,
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(user=PARTS, password=PARTS, token=PARTS)
def test_a_password_is_taken_out_however_it_is_spelled(user: str, password: str, token: str) -> None:
    assert SHORTEST_PART < 8
    address = f"json://{quote(user, safe='')}:{quote(password, safe='')}@example.org/{quote(token, safe='')}"
    said = f"no: {address} [{user}] '{password}' <{quote(password, safe='')}> ({token})"
    told = without(address, said)
    for part in (user, password, token):
        assert part not in told
        assert quote(part, safe="") not in told


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("[Errno 111] Connection refused", "the connection was refused"),
        ("Failed to resolve '…'", "cannot be resolved"),
        ("Socket Exception: (535, b'no')", "does not take the user or the password"),
        ("Failed: Not Found, error=404.", "does not know the address"),
        ("x" * 200 + " timed out", "it did not answer in time"),
        ("something else", "something else"),
    ],
)
def test_common_failures_are_told_in_plain_words(said: str, words: str) -> None:
    assert words in in_plain_words(said)
