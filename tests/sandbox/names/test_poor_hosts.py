"""Hosts on which nothing is installed for it, and whose kernel lets users do little."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.names_world import API, NamesWorld, names_world
from tests.primitives import requires
from tests.sandbox.names.attempts import BLOCKED, attempt, network, run

pytestmark = [pytest.mark.slow, requires("root", "user namespaces", "ip")]


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamesWorld]:
    with names_world(tmp_path_factory.mktemp("poor"), poor=True) as made:
        yield made


def test_names_addresses_and_local_services_need_nothing_that_is_installed(
    poor: NamesWorld, uid: int
) -> None:
    by_name, by_address, local, beside = attempt(
        poor,
        uid,
        network("four.test:80", f"{API}:81", "localhost:8080"),
        ("web", "four.test"),
        ("web", API, 81),
        ("web", "127.0.0.1", 8080),
        ("web", API, 8080),
    )

    assert by_name == f"reached {API} 80 four.test"
    assert by_address == f"reached {API} 81 {API}"
    assert local == "reached 127.0.0.1 8080 127.0.0.1"
    assert beside in BLOCKED


def test_any_port_cannot_be_had_without_a_packet_filter_and_the_report_says_so(poor: NamesWorld) -> None:
    result = poor.run("shell", "echo ran", policy=network("four.test"))

    assert result.refused
    assert any("nft" in each.reason for each in result.sandbox.downgrades)


def test_the_report_says_if_no_host_can_be_pinged(poor: NamesWorld) -> None:
    result = run(poor, 0, network("four.test:80"), ("web", "four.test"))

    assert any("ping" in note.note for note in result.sandbox.notes)
