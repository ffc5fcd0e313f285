"""`--output` is the same for all commands that print a document, and `--json` is short for one of its values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ringfence.cli.documents import Format, names, written
from ringfence.process.errors import CliError

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost
from tests.cli.test_wrong_command_lines import TREE, takes_json

TOKENS = {"tokens": [{"name": "ann", "rules": []}, {"name": "b\u001b[31m", "rules": ["x.y.z"]}], "next": None}


@pytest.fixture
def tokens(host: FakeHost) -> FakeHost:
    host.on("GET", "/api/host/tokens", Answer(200, TOKENS))
    return host


@pytest.mark.parametrize("option", ["--output", "-o"])
def test_a_list_is_printed_in_each_format(option: str, command: Command, tokens: FakeHost) -> None:
    as_json = command("token", "list", option, "json")
    assert as_json.stdout == command("token", "list", "--json").stdout
    assert yaml.safe_load(command("token", "list", option, "yaml").stdout) == as_json.json
    assert command("token", "list", option, "name").stdout == "ann\nb\\x1b[31m\n"
    assert command("token", "list", option, "table").stdout == command("token", "list").stdout


def test_a_failure_is_a_document_as_well(command: Command, tmp_path: Path) -> None:
    for format in ("json", "yaml"):
        assert json.loads(command("token", "list", "--output", format).stdout)["error"]["message"]
    for format in ("name", "table"):
        outcome = command("token", "list", "--output", format)
        assert (outcome.status, outcome.stdout) == (1, "")


def test_a_format_that_there_is_not_is_told_with_those_that_there_are(command: Command) -> None:
    outcome = command("token", "list", "--output", "xml")
    assert outcome.status == 2
    assert all(one.value in outcome.stderr for one in Format)


WITHOUT_A_DOCUMENT = {("up",), ("plugin", "new"), ("plugin", "migration"), ("agent", "uninstall")}
"""What runs until it is stopped, or writes or removes files."""


def test_every_command_prints_a_document_but_those_with_nothing_to_tell_machines() -> None:
    without = {
        path for path, command in TREE.items() if not hasattr(command, "commands") and not takes_json(command)
    }
    assert without == WITHOUT_A_DOCUMENT


def test_every_command_that_prints_a_document_takes_all_formats() -> None:
    for path, one in TREE.items():
        options = {name for param in one.params for name in param.opts}
        if takes_json(one):
            assert {"--output", "-o"} <= options, path
        else:
            assert "--output" not in options, path


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"jobs": [{"id": "1", "name": "n"}, {"id": "2", "name": "n"}]}, ["1", "2"]),
        ({"satellite": {"name": "edge", "id": "7"}, "token": "rfs"}, ["edge"]),
        ({"name": "one", "rules": ["a"]}, ["one"]),
        ({"deleted": "edge"}, ["edge"]),
        ({"checks": []}, []),
    ],
)
def test_a_thing_is_called_by_its_name_or_by_its_id_where_names_are_shared(
    document: Any, found: list[str]
) -> None:
    assert list(names(document)) == found


def test_what_has_no_name_says_so() -> None:
    with pytest.raises(CliError, match="nothing that has a name"):
        written({"revision": None, "policy": {"enabled": True}}, Format.NAME)
