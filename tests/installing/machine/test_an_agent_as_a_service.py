"""`ringfence agent install` where systemd is process 1: what it starts, as whom, and what sandboxes in there hold.

It is installed from /srv, wherever this checkout is: what is below /tmp, services do not see.
"""

from __future__ import annotations

import asyncio
import pwd
import subprocess
import sys
import sysconfig
import uuid
from pathlib import Path

from ringfence.sandbox import DEFAULT_POLICY
from ringfence.scripts import ScriptKind
from ringfence_satellite.protocol import Authenticated, RunScript

from tests.primitives import requires
from tests.satellite.cores import scripted_core

pytestmark = requires("root", "running systemd")

CHECKOUT = Path(__file__).parents[3]
SEEN = Path("/srv/checkout")
"""The checkout, where services see it."""
ENVIRONMENT = Path("/srv/ringfence")
RINGFENCE = str(ENVIRONMENT / "bin/ringfence")
UNITS = Path("/run/units")
TARGETS = ("sysinit", "basic", "shutdown", "network-online", "multi-user")
"""What services stand on. Here there is nothing but them, so that nothing of the host's own is started."""
SERVICE = "ringfence-satellite"
SHOWS = """
id -u
cat /proc/self/cgroup
grep -i seccomp: /proc/self/status
ls /etc/ringfence /run/credentials 2>&1
"""


async def done(*words: str) -> str:
    """What a command prints, which has to succeed."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"{words}: {err.decode()}{out.decode()}{log()}"
    return out.decode()


def log() -> str:
    path = Path("/run/agent.log")
    return path.read_text() if path.exists() else ""


def make_ready() -> None:
    """What this machine lacks for a service: it has no journal, and only root may enter some directories."""
    for name in TARGETS:
        (UNITS / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    logging = Path(f"/etc/systemd/system/{SERVICE}.service.d/log.conf")
    logging.parent.mkdir(parents=True, exist_ok=True)
    logging.write_text(
        "[Service]\nStandardOutput=append:/run/agent.log\nStandardError=append:/run/agent.log\n"
    )
    for directory in Path(sys.executable).resolve().parents:
        directory.chmod(directory.stat().st_mode | 0o755)
    for name in ("/etc/subuid", "/etc/subgid"):
        with Path(name).open("a") as file:
            file.write("ringfence:700000:65536\n")


def put_where_services_see_it() -> None:
    """An environment in /srv, of the packages that this one has."""

    def seen(place: str) -> str:
        return place.replace(str(CHECKOUT), str(SEEN))

    SEEN.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(CHECKOUT), str(SEEN)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(ENVIRONMENT)], check=True)
    ours, its = (
        sysconfig.get_path("purelib", vars={"base": str(base)}) for base in (sys.prefix, ENVIRONMENT)
    )
    roots = Path(ours, "_ringfence.pth").read_text().splitlines()
    Path(its, "seen.pth").write_text("".join(f"{seen(place)}\n" for place in (ours, *roots)))
    Path(RINGFENCE).write_text(
        f"#!{ENVIRONMENT}/bin/python\nimport sys\nfrom ringfence.cli import main\nsys.exit(main())\n"
    )
    Path(RINGFENCE).chmod(0o755)


async def test_an_agent_is_a_service_whose_sandboxes_hold_and_is_removed_again(tmp_path: Path) -> None:
    make_ready()
    put_where_services_see_it()
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    agent = (RINGFENCE, "agent")
    async with scripted_core() as core:
        installed = await done(
            *(*agent, "install", "--url", core.url, "--client-id", "s", "--token-file", str(token))
        )
        assert f"{SERVICE}.service is started" in installed
        visit = await core.visit()
        said = visit.authenticate
        assert (said["clientId"], said["token"]) == ("s", "s3cret")
        await visit.send(
            Authenticated(
                satellite_id="s", sandbox_policy=DEFAULT_POLICY.to_wire(), sandbox_policy_revision=1
            )
        )
        applied = await visit.hear("sandbox_policy_applied")
        assert applied["downgrades"] == [], f"{applied}{log()}"
        assert all(applied["enforced"].values()), applied

        await visit.send(
            RunScript(run_id=str(uuid.uuid4()), kind=ScriptKind.SHELL, script=SHOWS, timeout_ms=120_000)
        )
        result = await visit.hear("run_result")
        assert "stdout" in result, f"{result}{log()}"
        uid, cgroup, filtered, *rest = result["stdout"].splitlines()
        own = pwd.getpwnam("ringfence").pw_uid
        assert uid != str(own), f"runs share the service's user: {result['sandbox']}"
        assert cgroup
        assert filtered.split() == ["Seccomp:", "2"]
        assert "token" not in " ".join(rest)
        report = result["sandbox"]
        mechanisms = " ".join(report["mechanisms"].values())
        assert "memory.max of the run's own cgroup" in mechanisms, report

        shown = await done(
            "systemctl", "show", SERVICE, "-p", "MainPID,ActiveState,User,Delegate,UnitFileState"
        )
        facts = dict(line.split("=", 1) for line in shown.splitlines())
        status = Path(f"/proc/{facts.pop('MainPID')}/status").read_text()
        assert facts == {
            "ActiveState": "active",
            "User": "ringfence",
            "Delegate": "yes",
            "UnitFileState": "enabled",
        }
        lines = dict(line.split(":", 1) for line in status.splitlines())
        assert lines["Uid"].split() == [str(own)] * 4
        assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == 0
        # CAP_DAC_OVERRIDE, CAP_SETGID, CAP_SETUID and CAP_SYS_ADMIN
        assert int(lines["CapBnd"], 16) == sum(1 << number for number in (1, 6, 7, 21))

        gone = await done(*agent, "uninstall")
        assert "is removed" in gone
        code, _ = await visit.closed()
        assert code in {1000, 1001}
        process = await asyncio.create_subprocess_exec("systemctl", "is-active", "--quiet", SERVICE)
        assert await process.wait() != 0
