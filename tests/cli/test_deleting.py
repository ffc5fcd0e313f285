"""What cannot be taken back is asked about first; machines say `--yes`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, problem
from tests.cli.terminal import answering

SATELLITES = "/api/satellite/satellites"
CHECKS = "/api/health-checks/checks"
SECRETS = "/api/secrets/secrets"
LINES = [
    (("satellite", "delete", "edge"), "Remove the satellite edge (online)?"),
    (("check", "delete", "disk"), "Delete the check disk, and all of its results?"),
    (
        ("secret", "delete", "API_TOKEN"),
        "API_TOKEN is used by check disk and 1 more, which cannot run any more",
    ),
]


@pytest.fixture(autouse=True)
def things(host: FakeHost) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [{"id": "7", "name": "edge", "status": "online"}]}))
    host.on("GET", CHECKS, Answer(200, {"checks": [{"id": "7", "name": "disk"}]}))
    host.on("GET", f"{CHECKS}/7/results", Answer(200, {"results": [{}]}))
    host.on("GET", f"{SECRETS}/API_TOKEN/users", Answer(200, {"users": ["check disk"], "count": 2}))
    for path in (f"{SATELLITES}/7", f"{CHECKS}/7", f"{SECRETS}/API_TOKEN"):
        host.on("DELETE", path, Answer(204))


def deleted(host: FakeHost) -> int:
    return len([one for one in host.requests if one.method == "DELETE"])


@pytest.mark.parametrize(("line", "question"), LINES)
def test_at_a_terminal_it_is_asked_and_a_no_keeps_it(
    host: FakeHost, line: tuple[str, ...], question: str
) -> None:
    status, shown = answering(b"\n", *line)
    assert (status, deleted(host)) == (1, 0)
    assert question in " ".join(shown.split())
    assert answering(b"yes\n", *line)[0] == 0
    assert deleted(host) == 1


@pytest.mark.parametrize("line", [line for line, _ in LINES])
def test_without_a_terminal_it_needs_a_yes(command: Command, host: FakeHost, line: tuple[str, ...]) -> None:
    refused = command(*line)
    assert (refused.status, deleted(host)) == (1, 0)
    assert "--yes" in refused.stderr
    assert command(*line, "-y").status == 0
    assert deleted(host) == 1


def test_a_check_without_results_and_a_secret_that_nothing_uses_are_deleted_at_once(
    command: Command, host: FakeHost
) -> None:
    host.on("GET", f"{CHECKS}/7/results", Answer(200, {"results": []}))
    host.on("GET", f"{SECRETS}/API_TOKEN/users", Answer(200, {"users": [], "count": 0}))
    assert command("check", "delete", "disk").status == 0
    assert command("secret", "delete", "API_TOKEN").status == 0
    assert deleted(host) == 2


def test_a_host_of_an_older_release_does_not_know_what_uses_a_secret(
    command: Command, host: FakeHost
) -> None:
    del host.answers["GET", f"{SECRETS}/API_TOKEN/users"]
    assert command("secret", "delete", "API_TOKEN").status == 1
    assert deleted(host) == 0


def test_a_secret_that_is_not_there_is_not_asked_about(command: Command, host: FakeHost) -> None:
    absent = problem(404, "No such secret", detail="the built-in store has no secret API_TOKEN")
    host.on("GET", f"{SECRETS}/API_TOKEN/users", absent)
    outcome = command("secret", "delete", "API_TOKEN")
    assert (outcome.status, deleted(host)) == (1, 0)
    assert "has no secret API_TOKEN" in outcome.stderr
    assert "--yes" not in outcome.stderr
