"""`ringfence packages status`: which satellites have a set, and waiting for them."""

from __future__ import annotations

from typing import Any

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, Request

SET = "/api/script-packages/packages/sets/default"
MIB = 1024 * 1024


def package_set(ready: int, *lacking: dict[str, Any]) -> dict[str, Any]:
    """A set as the API shows it."""
    counts = {"ready": ready} | ({"syncing": len(lacking)} if lacking else {})
    return {
        "name": "default",
        "state": "current",
        "error": None,
        "lockHash": "a" * 64,
        "lockedAt": "2026-01-01T00:00:00Z",
        "bytes": 40 * MIB,
        "limitBytes": 300 * MIB,
        "isLarge": False,
        "packages": [],
        "platforms": [],
        "held": {"counts": counts, "lacking": list(lacking)},
    }


SLOW = {
    "name": "edge-7",
    "lockHash": "a" * 64,
    "state": "syncing",
    "bytes": 40 * MIB,
    "storedBytes": 12 * MIB,
    "error": None,
    "at": "2026-01-01T00:00:00Z",
}


def test_it_names_the_satellites_that_do_not_have_a_set_yet(command: Command, host: FakeHost) -> None:
    host.on("GET", SET, Answer(200, package_set(2, SLOW)))
    outcome = command("packages", "status")
    assert outcome.status == 0
    assert "2 of 3 satellites have it." in outcome.stdout
    assert "edge-7" in outcome.stdout
    assert "12.0 MiB of 40.0 MiB" in outcome.stdout


def test_it_waits_until_all_of_them_have_it(command: Command, host: FakeHost) -> None:
    seen = []

    def answer(request: Request) -> Answer:
        seen.append(request)
        return Answer(200, package_set(2, SLOW) if len(seen) < 3 else package_set(3))

    host.on("GET", SET, answer)
    outcome = command("packages", "status", "--watch")
    assert outcome.status == 0
    assert "3 of 3 satellites have it." in outcome.stdout
    assert len(seen) == 3


def test_who_cannot_have_it_is_named_and_waited_for_no_longer_than_wanted(
    command: Command, host: FakeHost
) -> None:
    stuck = {**SLOW, "state": "error", "error": "numpy has no wheel for this platform"}
    host.on("GET", SET, Answer(200, package_set(2, stuck)))
    outcome = command("packages", "status", "--watch", "--timeout", "0")
    assert outcome.status == 1
    assert "numpy has no wheel for this platform" in outcome.stdout
    assert command("packages", "status").status == 0
    assert command("packages", "status", "--timeout", "1").status == 2
