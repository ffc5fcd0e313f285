"""Hosts that somebody has signed in to, and which host a command talks to when several are named."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ringfence.cli.address import NoHost, find_address
from ringfence.cli.chosen import Chosen
from ringfence.cli.profiles import Profile, Profiles
from ringfence.process.errors import CliError, UsageMistake

from tests.cli.conftest import Command
from tests.cli.fake_host import Answer, FakeHost, problem, serving

TRIED = "/api/host/plugins"
PLUGINS = Answer(200, {"plugins": []})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config" / "ringfence" / "profiles.json"


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host that nobody is told of but by `ringfence login`."""
    monkeypatch.delenv("RINGFENCE_DATA_DIR")
    with serving(FakeHost()) as host:
        host.on("GET", TRIED, PLUGINS)
        yield host


def sign_in(command: Command, host: FakeHost, tmp_path: Path, name: str, token: str) -> None:
    file = tmp_path / f"token-of-{name}"
    file.write_text(token + "\n")
    assert command("login", host.url, "--profile", name, "--token-file", str(file)).status == 0


def test_a_command_talks_to_the_host_that_was_signed_in_to_last(
    command: Command, far: FakeHost, tmp_path: Path, config: Path
) -> None:
    sign_in(command, far, tmp_path, "prod", "rft_prod")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert command("plugins", "--json").json == {"plugins": []}
    assert far.requests[-1].headers["authorization"] == "Bearer rft_prod"
    sign_in(command, far, tmp_path, "other", "rft_other")
    command("plugins", "--json")
    assert far.requests[-1].headers["authorization"] == "Bearer rft_other"
    for arguments in (("--profile", "prod", "plugins"), ("plugins", "--profile", "prod")):
        assert command(*arguments).status == 0
        assert far.requests[-1].headers["authorization"] == "Bearer rft_prod"
    assert command("profiles", "--json").json["current"] == "other"
    assert command("profiles", "--use", "prod", "--json").json["current"] == "prod"
    assert command("logout", "--json").json["profile"] == "prod"
    assert "rft_prod" not in config.read_text()
    assert command("plugins", "--profile", "prod").status == 2


def test_a_token_is_asked_for_or_piped_in_and_tried_before_it_is_kept(
    command: Command, far: FakeHost, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    far.on("GET", TRIED, problem(401, "Unauthorized"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"rft_wrong\n")))
    refused = command("login", far.url)
    assert refused.status == 1
    assert "does not accept this token" in refused.stderr
    assert not config.exists()
    far.on("GET", TRIED, problem(403, "Forbidden"))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", lambda prompt: "rft_right")
    assert command("login", far.url, "--json").json["profile"] == "127.0.0.1"
    assert "rft_right" in config.read_text()


def test_of_those_who_sign_in_at_once_each_is_kept(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    names = [f"host-{number}" for number in range(8)]
    read = {name: Profiles.read(environ) for name in names}
    with ThreadPoolExecutor(len(names)) as at_once:
        profiles = {name: Profile(name, "http://127.0.0.1:1", f"rft_{name}") for name in names}
        list(at_once.map(lambda name: read[name].kept(profiles[name], keyring=False), names))
    before = Profiles.read(environ)
    assert sorted(before.all) == names
    before.without(names[0])
    assert sorted(before.without(names[1]).all) == names[2:]
    with pytest.raises(UsageMistake):
        before.used(names[0])


def test_with_keyring_the_token_is_in_no_file(
    command: Command, far: FakeHost, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("rft_ring")
    monkeypatch.setitem(sys.modules, "keyring", None)
    absent = command("login", far.url, "--keyring", "--token-file", str(file))
    assert absent.status == 1
    assert "pip install keyring" in absent.stderr
    kept: dict[tuple[str, str], str] = {}
    ring: Any = types.ModuleType("keyring")
    ring.set_password = lambda service, name, token: kept.update({(service, name): token})
    ring.get_password = lambda service, name: kept.get((service, name))
    ring.delete_password = lambda service, name: kept.pop((service, name))
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert command("login", far.url, "--keyring", "--token-file", str(file)).status == 0
    assert "rft_ring" not in config.read_text()
    assert command("plugins").status == 0
    assert far.requests[-1].headers["authorization"] == "Bearer rft_ring"
    assert command("logout").status == 0
    assert not kept


def test_profiles_that_others_may_read_are_not_used(
    command: Command, far: FakeHost, tmp_path: Path, config: Path
) -> None:
    sign_in(command, far, tmp_path, "prod", "rft_prod")
    config.chmod(0o640)
    outcome = command("plugins")
    assert outcome.status == 1
    assert f"chmod 600 {config}" in outcome.stderr


HERE, FAR, MINE = "http://127.0.0.1:1", "https://far.example/core", "https://mine.example"


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """A machine with a host, a current profile `far` and another, `mine`."""
    data = tmp_path / "machine"
    data.mkdir()
    (data / "instance.json").write_text(json.dumps({"url": HERE, "pid": 1}))
    (data / "admin-token").write_text("admin\n")
    (tmp_path / "token").write_text("from-the-file\n")
    directory = tmp_path / "xdg" / "ringfence"
    directory.mkdir(parents=True)
    kept = {"far": {"url": FAR, "token": "t-far"}, "mine": {"url": MINE, "token": "t-mine"}}
    document = json.dumps({"current": "far", "profiles": kept})
    descriptor = os.open(directory / "profiles.json", os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(descriptor, document.encode())
    os.close(descriptor)
    return {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "DIR": str(data), "FILE": str(tmp_path / "token")}


@pytest.mark.parametrize(
    ("given", "environ", "url", "token"),
    [
        ({}, {}, FAR, "t-far"),
        ({}, {"DATA_DIR": "DIR"}, HERE, "admin"),
        ({}, {"DATA_DIR": "DIR", "PROFILE": "mine"}, MINE, "t-mine"),
        ({}, {"DATA_DIR": "DIR", "PROFILE": "mine", "URL": FAR, "TOKEN": "t"}, FAR, "t"),
        ({}, {"URL": FAR, "TOKEN_FILE": "FILE"}, FAR, "from-the-file"),
        ({}, {"URL": FAR, "TOKEN": "t", "TOKEN_FILE": "FILE"}, FAR, "t"),
        ({}, {"URL": MINE}, MINE, "t-mine"),
        ({"profile": "mine"}, {"URL": FAR, "TOKEN": "t"}, MINE, "t-mine"),
        ({"profile": "local"}, {"DATA_DIR": "DIR", "PROFILE": "mine"}, HERE, "admin"),
        ({"data_dir": "DIR"}, {"DATA_DIR": "DIR", "URL": FAR, "TOKEN": "t"}, HERE, "admin"),
        ({"url": "https://x.example"}, {"TOKEN": "t"}, "https://x.example", "t"),
        ({"url": "https://x.example"}, {"URL": FAR, "TOKEN": "t"}, None, None),
        ({"url": "https://x.example"}, {}, None, None),
        (
            {"url": "https://x.example", "token_file": "FILE"},
            {"TOKEN": "t"},
            "https://x.example",
            "from-the-file",
        ),
        ({"profile": "mine", "token_file": "FILE"}, {}, MINE, "from-the-file"),
    ],
)
def test_options_come_before_the_environment_and_that_before_the_profile_and_tokens_go_nowhere_else(
    given: dict[str, str],
    environ: dict[str, str],
    url: str | None,
    token: str | None,
    machine: dict[str, str],
) -> None:
    said = Chosen(**{name: machine.get(value, value) for name, value in given.items()})
    named = {f"RINGFENCE_{name}": machine.get(value, value) for name, value in environ.items()}
    environment = {"XDG_CONFIG_HOME": machine["XDG_CONFIG_HOME"], **named}
    if url is None:
        with pytest.raises(NoHost, match="no token"):
            find_address(environment, said)
        return
    address = find_address(environment, said)
    assert (address.url, address.token) == (url, token)


def test_what_contradicts_itself_or_does_not_exist_is_said_so(machine: dict[str, str]) -> None:
    with pytest.raises(UsageMistake, match="give one of them"):
        find_address(machine, Chosen(url=FAR, profile="mine"))
    with pytest.raises(UsageMistake, match="there is no profile 'nobody'") as unknown:
        find_address(machine, Chosen(profile="nobody"))
    assert unknown.value.hint == "There are: far, mine."
    with pytest.raises(CliError, match="cannot read the token in /nope"):
        find_address(machine, Chosen(url=FAR, token_file="/nope"))


def test_the_settings_tell_which_host_commands_talk_to(
    command: Command, far: FakeHost, tmp_path: Path
) -> None:
    sign_in(command, far, tmp_path, "prod", "rft_prod")
    told = command("settings", "--json").json["host"]
    assert told == {"url": far.url, "from": "the profile signed in to last", "profile": "prod"}
    assert command("--url", "https://x.example", "settings", "--json").json["host"]["from"] == "--url"


def test_a_data_directory_brings_its_settings_file_from_either_side(
    command: Command, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RINGFENCE_URL")
    monkeypatch.delenv("RINGFENCE_TOKEN")
    host.on("GET", TRIED, PLUGINS)
    data = tmp_path / "there"
    data.mkdir()
    (data / "instance.json").write_text(json.dumps({"url": host.url, "pid": 1}))
    (data / "ringfence.toml").write_text("token = 'from-its-file'\n")
    for arguments in (("--data-dir", str(data), "plugins"), ("plugins", "--data-dir", str(data))):
        assert command(*arguments).status == 0
        assert host.requests[-1].headers["authorization"] == "Bearer from-its-file"
