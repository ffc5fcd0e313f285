"""Monitoring plugins as Debian has them, unchanged: by Ringfence they say what they say directly, or are unknown."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, PolicySource, overlay
from ringfence.scripts import Carried, ScriptRequest, Task, carry_out, run_under

from tests.primitives import lacking, requires
from tests.real_plugins.services import SERVICES, own_address, serving

HERE = "/usr/lib/nagios/plugins"
STATES = {0: "healthy", 1: "degraded", 2: "unhealthy", 3: "unknown"}
TIMEOUT_SECONDS = 60

pytestmark = [pytest.mark.slow, requires("user namespaces", "monitoring plugins")]

SAME = [
    "check_dummy 0 fine",
    "check_dummy 1 'not so good'",
    "check_dummy 2 bad",
    "check_dummy 3 'cannot say'",
    "check_cluster --service -d 0,2,0 -w 0 -c 1",
    "check_cluster --host -d 0,0,1,1 -w 1 -c 3 -l hosts",
    "check_file_age -w 99999999999 -c 99999999999 -W 1 -C 1 -f /usr/bin/env",
    "check_file_age -w 10 -c 20 -f /usr/bin/env",
    "check_file_age -f /usr/bin/no-such-file",
    "check_log -F /usr/lib/os-release -O {state} -q no-such-line",
    "check_log -F /usr/lib/no-such-log -O {state} -q x",
    "check_mrtg -F /usr/lib/no-such-log -a AVG -v 1 -w 1 -c 2",
    "check_mrtgtraf -F /usr/lib/no-such-log -a AVG -w 1,1 -c 2,2",
    "check_statusfile /usr/lib/no-such-file",
    "negate /usr/lib/nagios/plugins/check_dummy 0 fine",
    "negate -w CRITICAL /usr/lib/nagios/plugins/check_dummy 1 odd",
    "urlize http://somewhere /usr/lib/nagios/plugins/check_dummy 1 odd",
    "check_sensors",
    "check_tcp",
    "check_http --no-such-option",
    "check_drbd",
]
"""These look at nothing that a sandbox shows in another way."""

REACHING = [
    "check_tcp -H {address} -p {tcp}",
    "check_tcp -H {address} -p {tcp} -e hello -w 50 -c 60",
    "check_tcp -H {address} -p {tcp} -e something-else -M crit",
    "check_http -I {address} -p {http} -w 50 -c 60",
    "check_http -I {address} -p {http} -s ready",
    "check_http -I {address} -p {http} -s no-such-text",
    "check_http -I {address} -p {http} -e 404",
    "check_ssh -p {ssh} {address}",
    "check_ssh -r OpenSSH_1 -p {ssh} {address}",
    "check_smtp -H {address} -p {smtp}",
    "check_ftp -H {address} -p {ftp}",
    "check_pop -H {address} -p {pop}",
    "check_imap -H {address} -p {imap}",
    "check_nntp -H {address} -p {nntp}",
    "check_time -H {address} -p {time} -W 30 -C 60",
    "check_tcp -H {address} -p {closed}",
]
"""These reach servers of this test."""

ANYWAY = [
    "check_load -w 1000,1000,1000 -c 2000,2000,2000",
    "check_load -r -w 1000,1000,1000 -c 0,0,0",
    "check_swap -w 1% -c 1% -n ok",
    "check_uptime",
    "check_memory -w 99% -c 100%",
    "check_madrisan_swap",
    "check_madrisan_uptime",
    "check_paging",
    "pmp-check-unix-memory -w 99 -c 100",
]
"""These look at the host too, and have its numbers in every sandbox."""

BLIND = [
    "check_apt -n",
    "check_disk -w 10 -c 5 -p /",
    "check_etc_hosts",
    "check_file_age -f /var/lib/dpkg/status",
    "check_log -F /var/lib/dpkg/status -O {state} -q no-such-line",
    "check_log -F /usr/lib/os-release -O /tmp/seen -q no-such-line",
    "check_madrisan_users",
    "check_nagios -F /var/log/nagios -e 1 -C nagios",
    "check_packages",
    "check_procs -w 5000",
    "check_procs -c 1:0 -C no-such-program",
    "check_running_kernel",
    "check_tcpcount",
    "check_users -w 500 -c 1000",
    "negate -w OK /usr/lib/nagios/plugins/check_procs -w 1",
]
"""These are not shown what they tell of, unless the policy grants it."""

NEVER = [
    "check_disk -w 10 -c 5",
    "check_ide_smart -d /dev/sda",
    "check_libs",
    "check_nbprocs",
    "check_network",
    "check_network_dropped",
    "check_network_errors",
    "pmp-check-lvm-snapshots",
]
"""These are not shown what they tell of, or not all of it, whatever the policy grants."""

LOOKING = [
    "check_disk -w 10 -c 5 -p /",
    "check_disk -w 10 -c 5 -p /usr",
    "check_disk -w 99999999 -c 5 -p /",
    "check_load -w 1000,1000,1000 -c 2000,2000,2000",
    "check_load -w 1000,1000,1000 -c 0,0,0",
    "check_procs -w 5000",
    "check_procs -c 1:0 -C no-such-program",
    "check_ifmountfs /",
    "check_swap -w 1% -c 1% -n ok",
    "check_uptime",
    "check_memory -w 99% -c 100%",
    "check_madrisan_load",
    "check_madrisan_swap",
    "check_madrisan_uptime",
    "check_readonlyfs",
    "check_tcpcount",
    "pmp-check-unix-memory -w 99 -c 100",
]
"""These look at the host, and have its numbers where the policy shows it."""
SHOWN = {"filesystem": {"hostView": ["processes", "disks", "network"]}}

WITH_PATHS = ["check_apt -n", "check_packages", "check_file_age -f /var/lib/dpkg/status"]
"""These read files of the host."""
PATHS = {"filesystem": {"hostPaths": ["/var/lib/dpkg", "/var/lib/apt", "/etc/apt"]}}

STATE = "/tmp/state/seen"
"""Where a run keeps something for the next one."""

MOVING = frozenset({"age", "offset", "time"})
"""Metrics that are another number each time."""


@dataclass(frozen=True)
class Said:
    """What a plugin says, read by a few lines that Ringfence has no part in."""

    state: str
    message: str
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)


PERFDATA = re.compile(
    r"('(?:[^']|'')+'|[^\s=']+)=(-?[0-9.]+)([^\s;0-9]*)(?:;([^\s;]*))?(?:;([^\s;]*))?(?:;([^\s;]*))?(?:;([^\s;]*))?"
)


def directly(words: list[str]) -> Said:
    """The plugin on this machine, without a sandbox."""
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS, stdin=subprocess.DEVNULL
    )
    line, _, below = done.stdout.partition("\n")
    first, _, numbers = line.partition("|")
    numbers += f" {below.partition('|')[2]}"
    return Said(
        STATES.get(done.returncode, "unknown"), first.strip(), dict(map(_metric, PERFDATA.finditer(numbers)))
    )


def _metric(found: re.Match[str]) -> tuple[str, dict[str, Any]]:
    name, value, unit, warn, crit, least, most = found.groups()
    metric = {
        "value": float(value),
        "unit": unit or None,
        "warn": warn or None,
        "crit": crit or None,
        "min": float(least) if least else None,
        "max": float(most) if most else None,
    }
    return name.strip("'"), {key: each for key, each in metric.items() if each is not None}


def by_ringfence(words: list[str], policy: dict[str, Any]) -> Carried:
    """The same as a check has it."""
    return carried_out(Task(command=tuple(words), keep_state=STATE in words), policy)


def carried_out(task: Task, policy: dict[str, Any]) -> Carried:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy), source=PolicySource.FILE)

    async def secrets(_: object) -> dict[str, str]:
        return {}

    async def run(request: ScriptRequest) -> Any:
        return await run_under(snapshot, request)

    return asyncio.run(carry_out(task, {}, secrets=secrets, run=run, timeout_ms=TIMEOUT_SECONDS * 1000))


def words_of(line: str, **values: object) -> list[str]:
    """A command line as words; its first is a plugin."""
    program, *rest = shlex.split(line.format(**values))
    return [f"{HERE}/{program}", *rest]


def assert_the_same(said: Said, carried: Carried) -> None:
    verdict = carried.verdict
    told = f"{said} / {verdict}"
    assert verdict.status == said.state, told
    metrics = {name: one.to_object() for name, one in verdict.metrics.items()}
    assert metrics.keys() == said.metrics.keys(), told
    for name, wanted in said.metrics.items():
        found = metrics[name]
        if name in MOVING:
            assert {**found, "value": 0} == {**wanted, "value": 0}, told
            assert found["value"] == pytest.approx(wanted["value"], abs=20), told
        else:
            assert found == wanted, told
    if not MOVING & said.metrics.keys() and said.message:
        assert verdict.message == said.message, told


@pytest.mark.parametrize("line", SAME)
def test_a_plugin_says_the_same_in_a_sandbox(line: str, tmp_path: Path) -> None:
    # What one keeps for its next run is not to be there at the first.
    here = words_of(line, state=tmp_path / "seen")
    assert_the_same(directly(here), by_ringfence(words_of(line, state=STATE), {}))


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, object]]:
    address = own_address()
    if address is None:
        lacking("this machine has no address but its loopback's")
    with serving(address) as ports:
        yield {"address": address, **ports, "closed": 9}


@requires("slirp4netns")
@pytest.mark.parametrize("line", REACHING)
def test_a_plugin_that_reaches_a_server_says_the_same(line: str, served: dict[str, object]) -> None:
    words = words_of(line, **served)
    allowed = [f"{served['address']}:{served[name]}" for name in (*SERVICES, "closed")]
    assert_the_same(directly(words), by_ringfence(words, {"network": {"allow": allowed}}))


@requires("root")  # which gives runs a uid of their own; without one they are not shown processes
@pytest.mark.parametrize("line", LOOKING)
def test_a_plugin_that_looks_at_the_host_has_its_numbers_where_it_is_shown(line: str) -> None:
    assert_nearly_the_same(line, SHOWN)


@pytest.mark.parametrize("line", ANYWAY)
def test_a_plugin_that_looks_at_the_whole_machine_has_its_numbers_in_every_sandbox(line: str) -> None:
    assert_nearly_the_same(line, {})


@pytest.mark.parametrize("line", WITH_PATHS)
def test_a_plugin_that_reads_files_of_the_host_says_the_same_where_they_are_shown(line: str) -> None:
    assert_nearly_the_same(line, PATHS)


@pytest.mark.parametrize("line", BLIND)
def test_a_plugin_that_is_not_shown_what_it_tells_of_is_unknown_with_the_grant_that_it_needs(
    line: str,
) -> None:
    verdict = by_ringfence(words_of(line, state=STATE), {}).verdict
    assert (verdict.status, dict(verdict.metrics)) == ("unknown", {}), verdict
    assert re.search(r"needs .* in the policy's filesystem\.host(View|Paths)|of its own", verdict.message)


@pytest.mark.parametrize("line", NEVER)
def test_a_plugin_that_is_never_shown_what_it_tells_of_is_unknown_under_any_policy(line: str) -> None:
    for policy in ({}, SHOWN):
        verdict = by_ringfence(words_of(line), policy).verdict
        assert (verdict.status, dict(verdict.metrics)) == ("unknown", {}), verdict
        assert line.partition(" ")[0] in verdict.message


def assert_nearly_the_same(line: str, policy: dict[str, Any]) -> None:
    """The same as `assert_the_same`, but for the numbers of a host that goes on working."""
    words = words_of(line)
    said, carried = directly(words), by_ringfence(words, policy)
    verdict, told = carried.verdict, f"{said} / {carried}"
    assert verdict.status == said.state, told
    metrics = {name: one.to_object() for name, one in verdict.metrics.items()}
    assert metrics.keys() == said.metrics.keys(), told
    for name, wanted in said.metrics.items():
        if line == "check_paging" or name == "mem_dirty":
            continue  # It is of one second, or of what happens to be written now.
        assert {**metrics[name], "value": 0} == {**wanted, "value": 0}, told
        assert metrics[name]["value"] == pytest.approx(wanted["value"], rel=0.25, abs=100), told


@requires("ping")
def test_a_plugin_that_needs_what_no_run_has_is_unknown(served: dict[str, object]) -> None:
    words = words_of("check_ping -H {address} -w 500,50% -c 900,90% -p 1", **served)
    assert directly(words).state == "healthy"
    verdict = by_ringfence(words, SHOWN).verdict
    assert (verdict.status, verdict.message != "") == ("unknown", True), verdict


MUNIN = ["load", "uptime", "entropy", "forks", "interrupts"]
"""These read of `/proc` what is the whole machine's, in a sandbox too."""


@requires("munin plugins")
@pytest.mark.parametrize("name", MUNIN)
def test_a_munin_plugin_prints_the_same_numbers(name: str) -> None:
    command, env = f"/usr/share/munin/plugins/{name}", {"MUNIN_LIBDIR": "/usr/share/munin"}
    done = subprocess.run(
        [command],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    carried = carried_out(Task(command=(command,), env=env), {})
    assert carried.verdict.status == "healthy", carried
    assert carried.run is not None
    wanted, found = _munin(done.stdout), _munin(carried.run.stdout)
    assert found.keys() == wanted.keys() != set()
    assert found == pytest.approx(wanted, rel=0.25, abs=5)


@requires("munin plugins")
@pytest.mark.parametrize(
    "name", ["df", "df_inode", "fw_packets", "processes", "proc_pri", "threads", "users"]
)
def test_a_munin_plugin_that_is_not_shown_what_it_tells_of_is_unknown(name: str) -> None:
    command, env = f"/usr/share/munin/plugins/{name}", {"MUNIN_LIBDIR": "/usr/share/munin"}
    assert carried_out(Task(command=(command,), env=env), {}).verdict.status == "unknown"


def _munin(text: str) -> dict[str, float]:
    return {name: float(value) for name, _, value in (line.partition(" ") for line in text.splitlines())}
