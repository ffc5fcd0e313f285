"""Which scripts are told that they look at the host."""

from __future__ import annotations

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.policy import HostView
from ringfence.scripts import ScriptKind, ScriptRequest, run_under
from ringfence.scripts.running.host_tools import host_tools_in, told_of

from tests.primitives import requires


@pytest.mark.parametrize(
    ("text", "tools"),
    [
        ("df -P /", ["df"]),
        ("#!/bin/sh\nused=$(df -P / | tail -1)\n", ["df"]),
        ("if ps aux | grep -q nginx; then echo fine; fi", ["ps"]),
        ("/usr/lib/nagios/plugins/check_disk -w 10 -c 5", ["check_disk"]),
        ("set -e\n  /bin/free -m && uptime", ["free", "uptime"]),
        ("apt  list --upgradable", ["apt list"]),
        ("sudo systemctl is-active ssh || journalctl -u ssh", ["systemctl", "journalctl"]),
        ("import psutil\nprint(psutil.pids())", ["psutil"]),
        ("subprocess.run(['ss', '-tln'])", ["ss"]),
        ("execSync('lsof -i')", ["lsof"]),
        ("test -z `netstat -tln`", ["netstat"]),
        # What only has such a name.
        ("df = pandas.read_csv('x')\ndf.head()\ndf[0]", []),
        ("# df shows the disk\necho fine", []),
        ("free(block); top: int = 3; mount('x')", []),
        ("echo the ps of it", []),
        ("curl -s http://host/df", []),
        ("cat ./ps.txt; psql -c x; ssh host", []),
    ],
)
def test_what_looks_at_the_host_is_found_where_commands_are(text: str, tools: list[str]) -> None:
    assert list(host_tools_in(text)) == tools


def test_what_the_policy_shows_or_every_sandbox_has_is_not_told() -> None:
    told = told_of(["df", "ps", "free", "apt list", "systemctl"], [HostView.PROCESSES])
    assert told is not None
    assert "df needs disks in the policy's filesystem.hostView" in told
    assert "apt list needs /var/lib/dpkg" in told
    assert "systemctl asks what no sandbox reaches" in told
    assert "ps" not in told.replace("hostPaths", "")
    assert "free" not in told
    assert told_of(["df", "free"], list(HostView)) is None
    assert told_of(["apt list"], [], ["/"]) is None


@requires("user namespaces")
async def test_a_run_says_that_its_script_looks_at_what_is_not_shown() -> None:
    async def notes(filesystem: dict[str, object], request: ScriptRequest) -> str:
        snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"filesystem": filesystem}))
        return " ".join(note.note for note in (await run_under(snapshot, request)).sandbox.notes)

    script = ScriptRequest(ScriptKind.SHELL, "df -P / >/dev/null")
    assert "df needs disks" in await notes({}, script)
    assert "df needs" not in await notes({"hostView": ["disks"]}, script)
    assert "df needs" not in await notes({"mode": "off"}, script)
    assert "looks at the host" not in await notes({}, ScriptRequest(ScriptKind.SHELL, "true"))
    command = ScriptRequest(ScriptKind.PROGRAM, command=("/usr/bin/df", "-P", "/"))
    assert "df needs disks" in await notes({}, command)
