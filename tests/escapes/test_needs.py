"""A run that says what it needs has that of its policy, and nothing more."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.escapes.conftest import Supervisor
from tests.escapes.test_sockets import Service, asking

CEILING_MEMORY = 512 * 2**20


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the host, with a file and a link that leads out of it."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-needs-", dir="/var/tmp"))
    directory.chmod(0o755)
    (directory / "shown").mkdir()
    (directory / "shown/file").write_text("a file")
    (directory / "shown/other").write_text("another file")
    (directory / "beside").write_text("not shown")
    (directory / "shown/link").symlink_to(directory / "beside")
    (directory / "shown/inside").symlink_to(directory / "shown/other")
    yield directory
    shutil.rmtree(directory)


def ceiling(place: Path, **network: Any) -> dict[str, Any]:
    """A policy that gives much."""
    return {
        "filesystem": {"hostPaths": [f"{place}/shown"], "hostView": ["network", "disks"]},
        "network": network or {"mode": "deny"},
    }


def test_of_a_policys_paths_and_views_there_is_what_is_needed(supervisor: Supervisor, place: Path) -> None:
    script = f"cat {place}/shown/file; ls {place}/shown; test -e /sys/class && echo view; true"
    whole = supervisor.run("shell", script, policy=ceiling(place))
    needed = {"hostPaths": [f"{place}/shown/file"]}
    narrowed = supervisor.run("shell", script, policy=ceiling(place), needs=needed)

    assert whole.stdout == "a filefile\ninside\nlink\nother\nview\n"
    assert narrowed.stdout == "a filefile\n"
    report = narrowed.sandbox.to_wire()
    assert report["requested"]["filesystem"]["hostPaths"] == [f"{place}/shown"]
    assert report["needs"] == needed
    assert report["mechanisms"]["hostPaths"].endswith(f": {place}/shown/file")
    assert "hostView" not in report["mechanisms"]
    assert "needs" not in whole.sandbox.to_wire()


def test_what_needs_nothing_has_the_plain_sandbox(supervisor: Supervisor, place: Path) -> None:
    script = f"ls {place}/shown || ls -d {place} || echo nothing"
    result = supervisor.run("shell", script, policy=ceiling(place), needs={})
    assert result.stdout == "nothing\n"
    assert result.sandbox.to_wire()["needs"] == {}


def test_what_does_not_say_has_the_plain_sandbox_where_the_policy_requires_it(
    supervisor: Supervisor, place: Path
) -> None:
    policy = {**ceiling(place), "needsRequired": True}
    result = supervisor.run("shell", f"ls {place}/shown || echo nothing", policy=policy)
    assert result.stdout == "nothing\n"
    assert any("needsRequired" in note.note for note in result.sandbox.notes)
    needed = {"hostPaths": [f"{place}/shown"]}
    assert "file" in supervisor.run("shell", f"ls {place}/shown", policy=policy, needs=needed).stdout


def test_a_link_in_what_the_policy_shows_leads_no_further_than_that(
    cold_supervisor: Supervisor, place: Path
) -> None:
    policy = {**ceiling(place), "onUnavailable": "degrade"}
    link, inside = f"{place}/shown/link", f"{place}/shown/inside"
    script = f"cat {link} {inside}"
    refused = cold_supervisor.run("shell", script, policy=policy, needs={"hostPaths": [link, inside]})
    assert refused.stdout == "another file"
    [downgrade] = refused.sandbox.downgrades
    assert downgrade.layer == "filesystem"
    assert (
        f"{link} cannot be shown: it leads to {place}/beside, which the policy does not show"
        in downgrade.reason
    )


def test_of_a_policys_sockets_there_are_those_that_are_needed(supervisor: Supervisor, place: Path) -> None:
    first, second = Service(place / "first.sock", "the first"), Service(place / "second.sock", "the second")
    # Of these paths, the policy as a whole would give no run a socket.
    policy = ceiling(place, allow=[f"unix:{first.path}", f"unix:{second.path}"])
    try:
        needed = {"network": [f"unix:{second.path}"]}
        result = supervisor.run("python", asking(first.path, second.path), policy=policy, needs=needed)
    finally:
        first.close()
        second.close()
    assert result.stdout == "FileNotFoundError\nthe second\n"


def test_less_memory_is_what_a_run_has_that_needs_less(cold_supervisor: Supervisor) -> None:
    script = "import time; held = [bytearray(2**20) for _ in range(200)]; time.sleep({}); print('had it')"
    policy = {"resources": {"memoryBytes": CEILING_MEMORY}}
    assert cold_supervisor.run("python", script.format(0), policy=policy).stdout == "had it\n"
    # Where memory is summed up by looking, a busy machine looks late.
    held = script.format(30)
    result = cold_supervisor.run("python", held, policy=policy, needs={"memoryBytes": 64 * 2**20})
    assert result.stdout == ""
    assert json.loads(result.sandbox.model_dump_json(by_alias=True))["needs"] == {"memoryBytes": 64 * 2**20}
