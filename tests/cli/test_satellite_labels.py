"""`ringfence satellite label` and `var`, and where labels and vars are given and shown."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost

SATELLITES = "/api/satellite/satellites"
BERLIN: dict[str, Any] = {
    "id": "id-of-berlin",
    "name": "berlin",
    "region": "eu",
    "status": "never",
    "offlineAfterSeconds": 45,
    "tags": ["web", "two words"],
    "labels": {"web": "", "env": "dev"},
    "vars": {"disk_warn": "80"},
}


def test_a_satellite_is_registered_with_labels_and_vars(command: Command, host: FakeHost) -> None:
    host.on("POST", SATELLITES, Answer(201, {"satellite": BERLIN, "token": "rfs_x"}))
    given = ("--tag", "old", "--label", "env=dev", "--label", "web", "--var", "a=b=c", "--var", "empty=")
    assert command("satellite", "create", "berlin", *given).status == 0
    assert host.only("POST").body == {
        "name": "berlin",
        "region": "default",
        "tags": ["old"],
        "labels": {"env": "dev", "web": ""},
        "vars": {"a": "b=c", "empty": ""},
    }


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (("label", "env=prod", "web-", "db", "x="), {"env": "prod", "web": None, "db": "", "x": ""}),
        (("var", "a=1", "b-", "c=x-"), {"a": "1", "b": None, "c": "x-"}),
    ],
)
def test_labels_and_vars_are_set_and_taken_off(
    command: Command, host: FakeHost, line: tuple[str, ...], body: dict[str, str | None]
) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [BERLIN]}))
    host.on("PATCH", f"{SATELLITES}/id-of-berlin", Answer(200, BERLIN))
    outcome = command("satellite", line[0], "berlin", *line[1:])
    assert outcome.stdout == "berlin is changed.\n"
    assert host.only("PATCH").body == {f"{line[0]}s": body}
    assert command("satellite", line[0], "berlin", "a=1", "--json").json["labels"] == BERLIN["labels"]


@pytest.mark.parametrize("line", [("var", "berlin", "a"), ("create", "x", "--var", "a"), ("label", "berlin")])
def test_what_sets_nothing_is_a_mistake(command: Command, host: FakeHost, line: tuple[str, ...]) -> None:
    assert command("satellite", *line).status == 2
    assert host.requests == []


def test_labels_and_vars_are_shown(command: Command, host: FakeHost) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": [BERLIN]}))
    shown = command("satellite", "show", "berlin").stdout
    assert "env=dev, web, two words" in shown
    assert "disk_warn=80" in shown
    assert "env=dev, web, two words" in command("satellite", "list").stdout


def test_tags_of_a_host_of_an_older_release_are_shown(command: Command, host: FakeHost) -> None:
    older = {key: value for key, value in BERLIN.items() if key not in {"labels", "vars"}}
    host.on("GET", SATELLITES, Answer(200, {"satellites": [older]}))
    assert "web, two words" in command("satellite", "list").stdout
    assert "web, two words" in command("satellite", "show", "berlin").stdout


def test_satellites_are_listed_by_a_selector(command: Command, host: FakeHost) -> None:
    host.on("GET", SATELLITES, Answer(200, {"satellites": []}))
    for option in ("--selector", "-l"):
        assert command("satellite", "list", option, "role in (web, api)").status == 0
    asked = [parse_qs(urlsplit(request.path).query)["selector"] for request in host.requests]
    assert asked == [["role in (web, api)"]] * 2
