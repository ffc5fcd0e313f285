"""`ringfence satellite enrol` gives a machine credentials of its own, which its agent takes from their directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost

SATELLITES = "/api/satellite/satellites"


def known(**fields: object) -> Answer:
    one = {"id": "id-of-edge", "name": "edge", "connectedAt": None, **fields}
    return Answer(200, {"satellites": [one], "next": None})


def made(token: str = "rfs_x") -> Answer:
    return Answer(201, {"satellite": {"id": "id-of-edge", "name": "edge"}, "token": token})


def test_a_satellite_is_registered_once_and_its_credentials_kept(
    command: Command, host: FakeHost, tmp_path: Path
) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [], "next": None}))
    host.on("POST", SATELLITES, made())
    directory = tmp_path / "etc/satellite"
    order = (
        "satellite",
        "enrol",
        "edge",
        "--directory",
        str(directory),
        "--label",
        "pool=k8s",
        "--label",
        "x",
    )
    outcome = command(*order)
    assert outcome.status == 0, outcome.stderr
    assert host.only("POST").body == {
        "name": "edge",
        "region": "default",
        "labels": {"pool": "k8s", "x": ""},
    }
    files = {one.name: one.read_text() for one in directory.iterdir()}
    assert files == {"client-id": "id-of-edge\n", "token": "rfs_x\n"}
    assert {stat.S_IMODE(one.stat().st_mode) for one in directory.iterdir()} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert "rfs_x" not in outcome.stdout + outcome.stderr
    before = len(host.requests)
    again = command(*order, "--json")
    assert again.json == {"id": "id-of-edge", "name": "edge", "directory": str(directory)}
    assert len(host.requests) == before


def test_one_that_is_known_and_away_gets_a_new_token(
    command: Command, host: FakeHost, tmp_path: Path
) -> None:
    host.on("GET", SATELLITES, known())
    host.on("POST", f"{SATELLITES}/id-of-edge/rotate-token", made("rfs_new"))
    # What is half there is made anew.
    (tmp_path / "token").write_text("")
    (tmp_path / "client-id").write_text("another\n")
    assert command("satellite", "enrol", "edge", "--directory", str(tmp_path)).status == 0
    assert (tmp_path / "token").read_text() == "rfs_new\n"
    assert (tmp_path / "client-id").read_text() == "id-of-edge\n"


def test_one_that_is_connected_keeps_its_token(command: Command, host: FakeHost, tmp_path: Path) -> None:
    host.on("GET", SATELLITES, known(connectedAt="2026-01-01T00:00:00Z"))
    outcome = command("satellite", "enrol", "edge", "--directory", str(tmp_path))
    assert outcome.status == 1
    assert "is connected, and would lose its token" in outcome.stderr
    assert [one.method for one in host.requests] == ["GET"]


def test_no_token_is_made_that_could_not_be_kept(command: Command, host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = command("satellite", "enrol", "edge", "--directory", str(tmp_path / "file"))
    assert outcome.status == 1
    assert "cannot write to" in outcome.stderr
    assert host.requests == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "cannot read the satellite's id"),
        ({"client-id": " \n"}, "client-id, is empty"),
        ({"client-id": "a"}, "cannot read the token file"),
    ],
)
def test_an_agent_says_which_of_its_credentials_is_missing(
    command: Command, tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    outcome = command("agent", "--url", "http://127.0.0.1:1", "--credentials", str(tmp_path))
    assert (outcome.status, said in outcome.stderr) == (2, True), outcome.stderr


def test_an_agent_that_is_told_nothing_says_what_it_has_to_be_told(command: Command) -> None:
    outcome = command("agent", "--url", "http://127.0.0.1:1")
    assert (outcome.status, "say who this satellite is" in outcome.stderr) == (2, True)
    assert "give the address of the host" in command("agent", "--client-id", "a").stderr
