"""Commands find the host, and its tokens go nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ringfence.cli.address import NoHost, find_address
from ringfence.process.errors import UsageMistake

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, problem

POLICY = "/api/script-packages/sandbox-policy"


def running_host(data_dir: Path, url: str, token: str | None = "admin") -> dict[str, str]:
    """The environment on a machine where a host runs."""
    data_dir.mkdir()
    (data_dir / "instance.json").write_text(json.dumps({"url": url, "pid": 1}))
    if token is not None:
        (data_dir / "admin-token").write_text(token + "\n")
    return {"RINGFENCE_DATA_DIR": str(data_dir)}


def test_the_host_on_this_machine_is_found_with_its_admin_token(tmp_path: Path) -> None:
    address = find_address(running_host(tmp_path / "d", "http://127.0.0.1:8484"))
    assert (address.url, address.token) == ("http://127.0.0.1:8484", "admin")


def test_the_environment_comes_first(tmp_path: Path) -> None:
    environ = running_host(tmp_path / "d", "http://127.0.0.1:8484")
    address = find_address(environ | {"RINGFENCE_URL": "https://far.example/", "RINGFENCE_TOKEN": "mine"})
    assert (address.url, address.token) == ("https://far.example", "mine")


def test_the_admin_token_is_never_sent_to_another_address(tmp_path: Path) -> None:
    environ = running_host(tmp_path / "d", "http://127.0.0.1:8484")
    with pytest.raises(NoHost, match=r"no token to use at https://far\.example"):
        find_address(environ | {"RINGFENCE_URL": "https://far.example"})


def test_the_same_address_from_the_environment_gets_the_admin_token(tmp_path: Path) -> None:
    environ = running_host(tmp_path / "d", "http://127.0.0.1:8484")
    assert find_address(environ | {"RINGFENCE_URL": "http://127.0.0.1:8484/"}).token == "admin"


def test_without_a_host_the_user_is_told_how_to_start_one(command: Command) -> None:
    outcome = command("policy", "show")
    assert outcome.status == 1
    assert outcome.stdout == ""
    assert "no running host is known" in outcome.stderr
    assert "ringfence up" in outcome.stderr


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "localhost:8484",
        "http://",
        "nonsense",
        "http://x:port",
        "http://x:0",
        "http://[::1",
        "http://me:secret@x",
        "http://x?token=secret",
    ],
)
def test_an_address_that_is_none_is_a_usage_mistake(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageMistake, match="RINGFENCE_URL"):
        find_address({"RINGFENCE_URL": url, "RINGFENCE_DATA_DIR": str(tmp_path)})


@pytest.mark.parametrize("token", ["rft_ab cd", "rft_ab\ncd", "rft_abä", "rft_ab\x07"])
def test_a_token_that_cannot_be_sent_is_a_usage_mistake_and_not_shown(
    command: Command, host: FakeHost, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("RINGFENCE_TOKEN", token)
    outcome = command("policy", "show")
    assert outcome.status == 2
    assert "RINGFENCE_TOKEN" in outcome.stderr
    assert "fault" not in outcome.stderr
    assert "rft_" not in outcome.stderr
    assert host.requests == []


def test_a_host_that_does_not_answer_is_said_so(
    command: Command, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("RINGFENCE_URL", f"http://127.0.0.1:{unused_port}")
    monkeypatch.setenv("RINGFENCE_TOKEN", "t")
    outcome = command("policy", "show")
    assert outcome.status == 1
    assert f"no host answers at http://127.0.0.1:{unused_port}" in outcome.stderr


def test_the_token_is_sent_as_a_bearer_token(command: Command, host: FakeHost) -> None:
    host.on("GET", "/api/host/plugins", Answer(200, {"plugins": []}))
    assert command("plugins", "--json").json == {"plugins": []}
    assert host.only("GET").headers["authorization"] == "Bearer the-token"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (problem(401, "Unauthorized"), "RINGFENCE_TOKEN"),
        (problem(403, "Forbidden", detail="needs satellite.satellite.manage"), "satellite.satellite.manage"),
        (Answer(200, raw=b"<html>"), "is that a Ringfence host?"),
        (Answer(502, raw=b"<html>bad gateway"), "answered 502"),
        (Answer(404, raw=b"<html>not found"), "not the answer of a Ringfence host: check RINGFENCE_URL"),
        (Answer(404, {"detail": "Not Found"}), "not the answer of a Ringfence host: check RINGFENCE_URL"),
        (problem(500, "Broken \x1b[31m"), r"Broken \x1b[31m"),
    ],
)
def test_a_refusal_says_what_to_do(command: Command, host: FakeHost, answer: Answer, says: str) -> None:
    host.on("GET", POLICY, answer)
    outcome = command("policy", "show")
    assert outcome.status == 1
    assert outcome.stdout == ""
    assert says in outcome.stderr
    assert "Traceback" not in outcome.stderr
