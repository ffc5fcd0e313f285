"""What the tests' own set-up does to a machine: it adds small packages, names them first, and touches nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USED = ("awk", "chmod", "grep", "id", "ln", "rm", "sed", "sh", "sort")

APT_GET = """#!/bin/sh
for word; do
  case "$word" in
    -s) simulated=yes ;;
    update) echo "UPDATED" >>"$CALLS"; exit 0 ;;
    needs-newer) newer=yes ;;
    brings-udev) boots=yes ;;
    in-place-of) removes=yes ;;
    unknown) echo "E: Unable to locate package unknown"; exit 100 ;;
  esac
done
if [ -z "$simulated" ]; then
  echo "$*" >>"$CALLS"
  if "$POLICY_RC_D"; then echo "STARTED" >>"$CALLS"; fi
  ln -s /nothing "$SYSTEMD_UNITS/multi-user.target.wants/brought.service"
  exit 0
fi
echo "Inst libsmall1 (1.0 Debian:12 [amd64])"
[ -z "$newer" ] || echo "Inst systemd [252.38] (252.39 Debian:12 [amd64]) []"
[ -z "$boots" ] || echo "Inst udev (252.39 Debian:12 [amd64])"
[ -z "$removes" ] || echo "Remv init [1.0]"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Where the programs are that the script finds; its apt-get writes down what it is asked to do."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in USED:
        (programs / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
    (programs / "apt-get").write_text(APT_GET)
    (programs / "apt-get").chmod(0o755)
    wants = tmp_path / "units" / "multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "before.service").symlink_to("/nothing")
    return tmp_path


def add(machine: Path, *packages: str, uid: int = 0) -> tuple[int, str, list[str]]:
    """The status of adding packages, what was said, and what apt-get was asked to do, simulations aside."""
    who = machine / "programs" / "id"
    who.unlink()
    who.write_text(f"#!/bin/sh\necho {uid}\n")
    who.chmod(0o755)
    calls = machine / "calls"
    finished = subprocess.run(
        [str(machine / "programs" / "sh"), ROOT / "tools/add-packages", *packages],
        env={
            "PATH": str(machine / "programs"),
            "CALLS": str(calls),
            "POLICY_RC_D": str(machine / "policy"),
            "SYSTEMD_UNITS": str(machine / "units"),
        },
        capture_output=True,
        text=True,
    )
    assert finished.stdout == ""
    return finished.returncode, finished.stderr, calls.read_text().splitlines() if calls.exists() else []


def test_packages_are_named_and_then_added(machine: Path) -> None:
    status, said, calls = add(machine, "small", "handy")
    assert status == 0
    assert said.splitlines() == ["Needed, and not installed: small handy", "Installing small handy …"]
    assert calls[0] == "UPDATED"
    (installed,) = calls[1:]
    assert " install small handy --no-install-recommends --no-upgrade --no-remove " in installed
    # Or apt would upgrade what comes from the same source as a new package.
    assert installed.endswith(" -o APT::Get::Upgrade-By-Source-Package=false")


def test_a_service_that_a_package_brings_is_not_started_now_or_later(machine: Path) -> None:
    _, _, calls = add(machine, "small")
    assert "STARTED" not in calls
    assert [link.name for link in (machine / "units").rglob("*.service")] == ["before.service"]
    assert not (machine / "policy").exists()
    (machine / "policy").write_text("#!/bin/sh\nexit 0\n")
    (machine / "policy").chmod(0o755)
    assert "STARTED" in add(machine, "small")[2], "a machine's own policy stays"
    assert (machine / "policy").exists()


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("needs-newer", "it would upgrade systemd"),
        ("brings-udev", "it would install udev"),
        ("in-place-of", "it would remove init"),
        ("unknown", "Unable to locate package unknown"),
    ],
)
def test_what_would_do_more_than_add_is_left_out_and_told(machine: Path, package: str, reason: str) -> None:
    status, said, calls = add(machine, "small", package, "handy")
    assert status == 1
    assert f"Not installing {package}:\n  {reason}\n" in said
    (installed,) = calls[1:]
    assert "install small handy --no-install" in installed


def test_an_ordinary_user_is_told_how_and_nothing_is_done(machine: Path) -> None:
    status, said, calls = add(machine, "small", uid=1000)
    assert (status, calls) == (1, [])
    assert "apt-get install --no-install-recommends --no-upgrade" in said
    assert said.endswith("-o APT::Get::Upgrade-By-Source-Package=false small\n")


@pytest.mark.parametrize("argument", ["", "all"])
def test_nothing_that_a_machine_boots_with_is_asked_for(machine: Path, argument: str) -> None:
    """Even where nothing is installed that the tests need: a kernel is unpacked beside them."""
    tools = machine / "checkout" / "tools"
    tools.mkdir(parents=True)
    (tools / "add-packages").write_text('echo "$*" >>"$CALLS"\n')
    script = (ROOT / "tools/system-packages").read_text()
    # What this very machine has is not looked at.
    script = script.replace(":/usr/local/sbin:/usr/sbin:/sbin", "")
    for directory in ("/usr/lib", "/lib", "/usr/include", "/boot"):
        script = script.replace(f" {directory}/", f" {machine}/nothing/")
    (tools / "system-packages").write_text(script)
    for name in ("dirname", "head", "mkdir", "uname"):
        (machine / "programs" / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
    calls = machine / "calls"
    subprocess.run(
        [str(machine / "programs" / "sh"), tools / "system-packages", argument],
        env={"PATH": str(machine / "programs"), "CALLS": str(calls)},
        check=True,
        capture_output=True,
    )
    asked = calls.read_text().split()
    assert {"slirp4netns", "nftables", "nodejs"} <= set(asked)
    assert ("gcc" in asked) is (argument == "all")
    assert not [name for name in asked if name.startswith(("linux-image", "udev", "systemd", "initramfs"))]
