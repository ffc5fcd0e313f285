"""`ringfence agent install` and `up --install`: what they write, whom they tell, and that they can be undone."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ringfence import units
from ringfence.process.errors import CliError
from ringfence.units import installing
from ringfence.units.installing import has_users_for_runs, this_program
from ringfence.units.manager import Manager
from ringfence.units.text import environment_of, unit_of

from tests.cli.conftest import Command, command, own_environment
from tests.primitives import requires

__all__ = ["command", "own_environment"]

URL = ("--url", "https://core.example.org")
Asked = Callable[[], list[str]]

SYSTEMCTL = """#!/bin/sh
echo "$@" >>{log}
case "$*" in
  *is-active*) test -e {active} ;;
  *"enable --now"*) test ! -e {failing} || {{ echo "Job failed." >&2; exit 1; }}; touch {active} ;;
  *"disable --now"*) rm -f {active} ;;
esac
"""


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A program on the path that notes what it is told, in place of systemd's; answers what that was since."""
    log, programs = tmp_path / "asked", tmp_path / "bin"
    programs.mkdir()
    program = programs / "systemctl"
    program.write_text(SYSTEMCTL.format(log=log, active=tmp_path / "active", failing=tmp_path / "failing"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def asked() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    return asked


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "berlin.token"
    path.write_text("rfs_secret\n")
    return path


def order(token: Path) -> tuple[str, ...]:
    return ("agent", "install", "--user", *URL, "--client-id", "id-1", "--token-file", str(token))


def test_an_agent_is_installed_for_a_user_once_and_removed_again(
    command: Command, systemctl: Asked, token: Path, tmp_path: Path
) -> None:
    outcome = command(*order(token))
    assert outcome.status == 0, outcome.stderr
    config = tmp_path / "config"
    unit = config / "systemd/user/ringfence-satellite.service"
    directory = config / "ringfence"
    assert systemctl() == [
        "--user show-environment",
        "--user is-active --quiet ringfence-satellite",
        "--user daemon-reload",
        "--user enable --now ringfence-satellite",
    ]
    text = unit.read_text()
    assert f"ExecStart={this_program()[0]} agent --credentials {directory}/satellite\n" in text
    assert "Delegate=yes" in text
    assert "WantedBy=default.target" in text
    assert "User=" not in text
    files = [directory / "satellite/token", directory / "satellite/client-id", directory / "satellite.env"]
    assert [stat.S_IMODE(one.stat().st_mode) for one in files] == [0o600] * 3
    assert stat.S_IMODE((directory / "satellite").stat().st_mode) == 0o700
    assert [one.read_text() for one in files[:2]] == ["rfs_secret\n", "id-1\n"]
    assert 'RINGFENCE_AGENT_URL="https://core.example.org"\n' in files[2].read_text()
    for public in (text, files[2].read_text(), outcome.stdout, outcome.stderr):
        assert "rfs_secret" not in public
    assert "journalctl --user -u ringfence-satellite -f" in outcome.stdout
    assert "ringfence agent uninstall" in outcome.stdout

    # Again: nothing is different, so nothing is written, and the agent goes on.
    again = command(*order(token), "--json").json
    assert (again["written"], again["started"], again["restarted"]) == ([], False, False)
    assert not [one for one in systemctl() if "restart" in one]
    # With what an earlier one has kept, and another address.
    other = command("agent", "install", "--user", "--url", "https://other.example.org", "--json").json
    assert (other["written"], other["restarted"]) == ([str(files[2])], True)
    assert systemctl()[-1] == "--user restart ringfence-satellite"

    gone = command("agent", "uninstall", "--user")
    assert gone.status == 0, gone.stderr
    assert systemctl()[-2:] == ["--user disable --now ringfence-satellite", "--user daemon-reload"]
    assert not unit.exists()
    assert str(directory / "satellite") in gone.stdout
    assert command("agent", "uninstall", "--user").status == 1


def test_what_would_be_written_is_shown_and_nothing_done(
    command: Command, systemctl: Asked, token: Path, tmp_path: Path
) -> None:
    shown = command(*order(token), "--print")
    assert shown.status == 0, shown.stderr
    assert "[Service]" in shown.stdout
    assert "id-1" in shown.stdout
    assert "rfs_secret" not in shown.stdout
    files = command(*order(token), "--print", "--json").json["files"]
    assert [(one["mode"], one["text"] is None) for one in files if one["path"].endswith("/token")] == [
        ("0600", True)
    ]
    assert systemctl() == []
    assert not (tmp_path / "config").exists()


def test_a_service_that_does_not_start_says_where_to_look(
    command: Command, systemctl: Asked, token: Path, tmp_path: Path
) -> None:
    (tmp_path / "failing").touch()
    outcome = command(*order(token))
    assert outcome.status == 1
    assert "Job failed." in outcome.stderr
    assert "journalctl --user -u ringfence-satellite" in outcome.stderr


def test_where_there_is_no_systemd_that_is_said(
    command: Command, token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = command(*order(token))
    assert outcome.status == 1
    assert "there is no systemctl here" in outcome.stderr
    assert "--print" in outcome.stderr
    assert not (tmp_path / "config").exists()


@requires("root")
@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")
def test_where_systemd_does_not_run_that_is_said(command: Command, systemctl: Asked, token: Path) -> None:
    for words in ((*order(token)[:2], "--system", *order(token)[3:]), ("up", "--install")):
        outcome = command(*words)
        assert outcome.status == 1
        assert "systemd does not run here" in outcome.stderr
    assert systemctl() == []
    assert not Path("/etc/systemd/system/ringfence-satellite.service").exists()


def test_an_installation_that_services_do_not_see_is_refused_before_anything_is_written(
    systemctl: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Path("/etc/systemd/system/ringfence.service")
    before = unit.exists()
    monkeypatch.setattr(Manager, "check", lambda _: None)
    monkeypatch.setattr(installing, "TEMPORARY", (Path("/nowhere"), Path(sys.prefix).parent))
    with pytest.raises(CliError, match="in a directory for temporary files") as refused:
        units.install(units.Installation(own=False, run_as="root"), units.HOST, units.Settings(("agent",)))
    assert this_program()[0] in str(refused.value)
    assert "/opt/ringfence" in str(refused.value.hint)
    assert systemctl() == []
    assert unit.exists() == before


@requires("systemd")
def test_an_agent_is_installed_into_the_root_of_another_system(
    command: Command, token: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    where = ("--root", str(root))
    words = ("agent", "install", *URL, "--client-id", "id-1", "--token-file", str(token), *where)
    outcome = command(*words)
    assert outcome.status == 0, outcome.stderr
    unit = root / "etc/systemd/system/ringfence-satellite.service"
    enabled = root / "etc/systemd/system/multi-user.target.wants/ringfence-satellite.service"
    assert enabled.is_symlink()
    text = unit.read_text()
    assert "agent --credentials ${CREDENTIALS_DIRECTORY}\n" in text
    assert "LoadCredential=token:/etc/ringfence/satellite/token\n" in text
    assert "User=ringfence\n" in text
    assert str(root) not in text
    kept = root / "etc/ringfence/satellite/token"
    assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == ("rfs_secret\n", 0o600)
    assert "u ringfence " in (root / "etc/sysusers.d/ringfence.conf").read_text()
    assert command(*words, "--json").json["written"] == []
    assert command("agent", "uninstall", *where).status == 0
    assert not enabled.is_symlink()
    assert not unit.exists()


def test_as_root_nobody_is_made_and_no_capability_taken(
    command: Command, token: Path, tmp_path: Path
) -> None:
    words = ("agent", "install", *URL, "--client-id", "id-1", "--token-file", str(token), "--print", "--json")
    files = command(*words, "--root", str(tmp_path), "--run-as", "root").json["files"]
    assert not [one for one in files if "sysusers" in one["path"]]
    text = next(one["text"] for one in files if one["path"].endswith(".service"))
    assert "User=root\n" in text
    assert "\nCapabilityBoundingSet=" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--client-id", "a"), "cannot read the token"),
        ((), "say who this satellite is"),
        (("--client-id", "a", "--token-file", "{empty}"), "token is empty"),
        (
            ("--client-id", "a", "--token-file", "{token}", "--ca-file", "/no/such.pem"),
            "no file /no/such.pem",
        ),
        (("--client-id", "a", "--token-file", "{token}", "--run-as", "nobody"), "leave out --run-as"),
        (("--client-id", "a", "--token-file", "{token}", "--url", "ftp://x"), "is not the address of a host"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    command: Command, systemctl: Asked, token: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    given = [one.format(empty=empty, token=token) for one in words]
    outcome = command("agent", "install", "--user", *URL, *given)
    assert outcome.status == 2
    assert said in outcome.stderr
    assert systemctl() == []
    assert not (tmp_path / "config").exists()


def test_a_host_is_installed_as_it_would_be_started(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data dir"
    words = ("up", "--install", "--print", "--port", "9000", "--no-satellite", "--data-dir", str(data))
    shown = command(*words)
    assert shown.status == 0, shown.stderr
    assert f"ExecStart={this_program()[0]} up --no-satellite\n" in shown.stdout
    assert 'RINGFENCE_PORT="9000"\n' in shown.stdout
    assert f'RINGFENCE_DATA_DIR="{data}"\n' in shown.stdout
    for wrong in (("--print",), ("--install", "--uninstall"), ("--uninstall", "--print"), ("--run-as", "x")):
        assert command("up", *wrong).status == 2


def test_words_of_a_unit_are_read_as_they_were_meant() -> None:
    words = ("/opt/a b/ringfence", "agent", "--url", 'https://x/"$HOME"%i\\')
    text = unit_of(units.SATELLITE, words, directory="/etc/ring%fence", run_as="x", writable=["/a b", "/c"])
    assert 'ReadWritePaths="/a b" /c\n' in text
    start = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    assert start == (
        'ExecStart="/opt/a b/ringfence" agent --url "https://x/\\"$$HOME\\"%%i\\\\" '
        "--credentials ${CREDENTIALS_DIRECTORY}"
    )
    assert "token:/etc/ring%%fence/satellite/token" in text
    settings = environment_of({"A": 'x "y" $z `w` \\'}, "about")
    assert settings == '# about\nA="x \\"y\\" \\$z \\`w\\` \\\\"\n'


def test_settings_that_somebody_has_written_stay(
    command: Command, systemctl: Asked, token: Path, tmp_path: Path
) -> None:
    command(*order(token))
    file = tmp_path / "config/ringfence/satellite.env"
    file.write_text(
        "# ours\nHTTPS_PROXY=http://proxy:3128\nRINGFENCE_AGENT_URL=http://old\nA=RINGFENCE_AGENT_URL=\n"
    )
    assert command(*order(token)).status == 0
    assert file.read_text() == (
        '# ours\nHTTPS_PROXY=http://proxy:3128\nRINGFENCE_AGENT_URL="https://core.example.org"\nA=RINGFENCE_AGENT_URL=\n'
    )
    assert "proxy:3128" not in command(*order(token), "--print").stdout


@requires("subordinate ids")
def test_who_has_users_for_runs_is_told_from_who_has_none(tmp_path: Path) -> None:
    subuid, subgid = files = (tmp_path / "subuid", tmp_path / "subgid")
    assert not has_users_for_runs("ringfence", files)
    subuid.write_text("ring:100000:65536\nringfence:700000:65536\n")
    subgid.write_text("ringfenced:700000:65536\n")
    assert not has_users_for_runs("ringfence", files)
    subgid.write_text("ringfence:700000:65536\n")
    assert has_users_for_runs("ringfence", files)
    assert not has_users_for_runs("root", files)
    for file in files:
        file.write_text("0:700000:65536\n")
    assert has_users_for_runs("root", files)
