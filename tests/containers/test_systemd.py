"""The units that `up --install` and `agent install` write, started by systemd as the first process of a container."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.containers import machines
from tests.containers.building import Builder, name_of, place
from tests.containers.runtime import Image, Running
from tests.primitives import requires
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.containers,
    requires("root", "runc", "buildah", "mmdebstrap"),
    pytest.mark.skipif(machines.unified() is None, reason="cgroups of version 2 are not mounted"),
]

MACHINE = f"""
FROM {name_of("Dockerfile")}
USER root
RUN apt-get update && apt-get install -y --no-install-recommends systemd uidmap && rm -rf /var/lib/apt/lists/*
"""
HOST, SATELLITE = "ringfence", "ringfence-satellite"
HERE = ("--data-dir", "/var/lib/ringfence")
VERIFY = """
sed -e 's|^ExecStart=.*|ExecStart=/opt/ringfence/bin/ringfence doctor --verify --json|' -e 's|^Type=.*|Type=oneshot|' \\
  -e '/^Restart=/d' -e '/^WatchdogSec=/d' -e '/^\\[Service\\]/a StandardOutput=file:/run/verification' \\
  /etc/systemd/system/ringfence.service >/etc/systemd/system/verification.service
systemctl daemon-reload
systemctl start verification
cat /run/verification
"""
"""What is confined as the host is looks at what it can do there."""


@pytest.fixture(scope="module")
def machine(builder: Builder, host_image: Image) -> Iterator[Running]:
    """A machine with systemd, and the user's subordinate users, on which nothing of Ringfence runs yet."""
    image = builder.build_more("localhost/machine", MACHINE)
    cgroups = machines.unified()
    assert cgroups is not None
    with (
        place("ringfence-machine-", least=0) as directory,
        machines.booted(image, cgroups, directory) as running,
    ):
        yield running


def done(machine: Running, *words: str) -> str:
    """What a program there prints, which has to succeed."""
    ran = machine.execute(*words)
    assert ran.returncode == 0, f"{words}\n{ran.stdout}\n{ran.stderr}\n{log(machine)}"
    return ran.stdout


def log(machine: Running) -> str:
    return machine.execute("journalctl", "--no-pager", "--lines", "60", "--output", "cat").stdout


def properties(machine: Running, service: str) -> dict[str, str]:
    names = "ActiveState,SubState,NRestarts,Result,ExecMainStatus,User,StatusText"
    lines = done(machine, "systemctl", "show", "--property", names, service).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def test_a_host_is_installed_and_runs_as_a_user_of_its_own(machine: Running) -> None:
    said = done(machine, "ringfence", "up", "--install", "--no-satellite")
    assert "ringfence.service is started, and starts with the machine." in said
    found = properties(machine, HOST)
    assert (found["ActiveState"], found["User"]) == ("active", "ringfence")
    assert found["StatusText"] == "Serving at http://127.0.0.1:8484"
    assert done(machine, "systemctl", "is-enabled", HOST) == "enabled\n"
    assert "Active: active (running)" in done(machine, "systemctl", "status", "--no-pager", HOST)


def test_what_the_unit_takes_away_breaks_no_sandbox(machine: Running) -> None:
    users = ("--add-subuids", "700000-765535", "--add-subgids", "700000-765535")
    done(machine, "usermod", *users, "ringfence")
    found = json.loads(done(machine, "sh", "-c", VERIFY))
    assert found["verification"]["holds"], found["verification"]
    there = {
        name for name, one in found["capabilities"].items() if isinstance(one, dict) and one.get("available")
    }
    assert there >= {"userNamespaces", "freshProc", "overlay", "uids", "relay", "nft"}, found["capabilities"]


def test_a_host_that_is_killed_is_started_again(machine: Running) -> None:
    done(machine, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", HOST)

    def is_back() -> bool:
        found = properties(machine, HOST)
        return (found["NRestarts"], found["ActiveState"], found["SubState"]) == ("1", "active", "running")

    wait_until(is_back, "it is started again")
    # What needs attention is that the other one has crashed, and the exit status says that something does.
    status = machine.execute("ringfence", "status", *HERE, "--json")
    assert json.loads(status.stdout)["ready"] is True


def test_an_agent_is_installed_beside_it_and_runs_scripts(machine: Running) -> None:
    token = ("--token-file", "/run/berlin.token")
    made = json.loads(done(machine, "ringfence", "satellite", "create", "berlin", "--json", *HERE, *token))
    url = ("--url", "http://127.0.0.1:8484", "--client-id", made["satellite"]["id"])
    said = done(machine, "ringfence", "agent", "install", *url, *token)
    assert f"{SATELLITE}.service is started" in said
    ran = done(machine, "ringfence", "run", *HERE, "--json", "--satellite", "berlin", "-c", "echo was run")
    result = json.loads(ran)
    assert result["stdout"] == "was run\n"
    assert result["sandbox"]["downgrades"] == []


@pytest.mark.parametrize("service", [SATELLITE, HOST])
def test_a_service_that_is_stopped_ends_well(machine: Running, service: str) -> None:
    """These are the last tests: what they stop is not there for others."""
    done(machine, "systemctl", "stop", service)
    found = properties(machine, service)
    assert (found["ActiveState"], found["Result"], found["ExecMainStatus"]) == ("inactive", "success", "0")
