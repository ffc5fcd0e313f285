"""Echo requests: to hosts that are listed, where the host lets its users send them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.names_world import DEAD, OTHER, SHARED, NamesWorld, names_world
from tests.primitives import requires
from tests.sandbox.names.attempts import network, run

pytestmark = requires("root", "user namespaces", "ip")


PING = "ping -c 1 -W 5 {} >/dev/null 2>&1; echo $?"


@requires("ping")
def test_listed_hosts_can_be_pinged_and_others_cannot(names: NamesWorld, uid: int) -> None:
    def ping(host: str) -> str:
        result = names.run(
            "shell", PING.format(host), policy=network("four.test:80", f"{OTHER}:80", f"{DEAD}:80"), uid=uid
        )
        return result.stdout.strip()

    assert ping("four.test") == "0"
    assert ping(OTHER) == "0"
    assert ping(DEAD) == "1"
    assert ping(SHARED) != "0"
    assert ping("169.254.169.254") != "0"


@pytest.fixture(scope="module")
def world_without_ping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamesWorld]:
    with names_world(tmp_path_factory.mktemp("without-ping"), ping=False) as made:
        yield made


@requires("ping")
def test_the_report_says_if_no_host_can_be_pinged(world_without_ping: NamesWorld, uid: int) -> None:
    result = run(world_without_ping, uid, network("four.test:80"), ("web", "four.test"))

    assert any("ping" in note.note for note in result.sandbox.notes)
