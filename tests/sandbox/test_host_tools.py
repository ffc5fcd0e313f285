"""Which scripts are told that they look at the host, and which programs cannot have told of it."""

from __future__ import annotations

import pytest
from ringfence.sandbox import DEFAULT_POLICY, Needs, PolicySnapshot, overlay
from ringfence.sandbox.policy import HostView
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, Verdict, read, run_under
from ringfence.scripts.choosing.choice import choose
from ringfence.scripts.running.host_tools import NOTHING, Shown
from ringfence.scripts.running.told_in_text import LONGEST, host_tools_in, told_of
from ringfence.scripts.running.told_program import untold

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
        ("LC_ALL=C TZ= df -P /", ["df"]),
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


@pytest.mark.parametrize("piece", ['a=" ', "'a=b ", "_=\t", "' ", "'/a", "=", "x=1\n"])
def test_no_script_takes_long_to_look_through(piece: str) -> None:
    # If it took time by the square of its length, this would be minutes.
    assert host_tools_in(piece * (LONGEST // len(piece))) == ()


def test_what_the_policy_shows_or_every_sandbox_has_is_not_told() -> None:
    told = told_of(
        ["df", "ps", "free", "apt list", "systemctl", "lsof"], Shown(frozenset({HostView.PROCESSES}))
    )
    assert told is not None
    assert "df needs disks in the policy's filesystem.hostView" in told
    assert "apt list needs /var/lib/dpkg, /var/lib/apt and /etc/apt in" in told
    assert "systemctl needs unix:/run/dbus/system_bus_socket in the policy's network.allow" in told
    assert "lsof looks at what other processes have open" in told
    assert "ps needs" not in told
    assert "free" not in told
    assert told_of(["df", "free"], ALL) is None
    assert told_of(["apt list"], Shown(has=lambda path: path.startswith(("/var", "/etc")))) is None
    assert told_of(["apt list"], Shown(has=lambda path: path == "/var/lib/dpkg")) is not None
    assert told_of(["systemctl"], Shown(sockets={"/run/systemd/private"})) is None


ALL = Shown(frozenset(HostView), lambda _: True, lambda _: True)
DISKS = frozenset({HostView.DISKS})


def why(shown: Shown, *command: str, args: tuple[str, ...] = ()) -> str | None:
    """Why a command cannot have told of the host."""
    request = ScriptRequest(ScriptKind.PROGRAM, command=command, args=args)
    return untold(choose(request), args, shown)


def why_script(shown: Shown, script: str, name: str = "", kind: ScriptKind = ScriptKind.AUTO) -> str | None:
    return untold(choose(ScriptRequest(kind, script, name=name)), (), shown)


@pytest.mark.parametrize(
    "command",
    [
        ("/usr/bin/df", "-P", "/"),
        ("/usr/lib/nagios/plugins/check_procs", "-w", "5"),
        ("/usr/lib/nagios/plugins/negate", "-w", "OK", "/usr/lib/nagios/plugins/check_procs"),
        ("/usr/bin/timeout", "-s", "KILL", "5", "/usr/bin/ps"),
        ("/usr/bin/timeout", "5", "ps", "ax"),
        ("/usr/bin/env", "-i", "LC_ALL=C", "/bin/nice", "/usr/bin/df", "/"),
        ("/bin/busybox", "df", "/"),
        ("/bin/sh", "-c", "exec df -P /"),
        ("/usr/bin/apt", "list", "--upgradable"),
        ("/usr/bin/test", "!", "-e", "/var/run/broken"),
        ("/usr/lib/nagios/plugins/check_file_age", "-f", "/var/log/syslog"),
        ("/usr/lib/nagios/plugins/check_file_age", "--file=/var/log/syslog"),
        ("/usr/bin/cat", "/proc/net/tcp"),
        ("/usr/bin/test", "-d", "/proc/4711"),
        ("/usr/bin/test", "-e", "/sys/class/net/eth0"),
        ("/usr/bin/test", "-e", "/dev/sda"),
        ("/usr/bin/perl", "-w", "/usr/lib/nagios/plugins/check_tcpcount"),
        ("/bin/bash", "/usr/lib/nagios/plugins/check_log", "-F", "/var/log/syslog"),
        ("/usr/share/munin/plugins/processes",),
        ("/usr/share/munin/plugins/ps_sshd",),
    ],
)
def test_a_command_that_tells_of_the_host_is_known_and_tells_where_it_is_shown(
    command: tuple[str, ...],
) -> None:
    assert why(NOTHING, *command)
    assert why(ALL, *command) is None


@pytest.mark.parametrize(
    "command",
    [
        ("/usr/lib/nagios/plugins/check_nbprocs",),
        ("/usr/lib/nagios/plugins/check_network",),
        ("/usr/bin/lsof", "-i"),
        ("/usr/bin/mount",),
        ("/usr/lib/nagios/plugins/check_disk", "-w", "10"),
        ("/usr/bin/df",),
        ("/usr/lib/nagios/plugins/check_disk", "-A", "-i", "/boot"),
        ("/usr/lib/nagios/plugins/check_procs", "-w", "5", "-u", "0"),
        ("/usr/bin/pgrep", "-c", "--uid=0", "."),
        ("/usr/bin/ps", "-fU", "root"),
        ("/usr/share/munin/plugins/threads",),
        ("/usr/share/munin/plugins/users",),
        ("/usr/bin/who",),
        ("/usr/share/munin/plugins/df_inode",),
        ("/usr/share/munin/plugins/if_err_eth0",),
    ],
)
def test_what_is_never_all_of_the_host_is_untold_under_any_policy(command: tuple[str, ...]) -> None:
    assert why(ALL, *command)


@pytest.mark.parametrize(
    "command",
    [
        ("/usr/bin/free",),
        ("/usr/lib/nagios/plugins/check_load", "-w", "5"),
        ("/usr/lib/nagios/plugins/check_http", "-H", "host", "-u", "/df"),
        ("/usr/lib/nagios/plugins/check_by_ssh", "-H", "host", "-C", "/usr/lib/nagios/plugins/check_disk"),
        ("/usr/bin/printf", "ps"),
        ("/usr/bin/users",),
        ("/usr/bin/perl", "-e", "print 1"),
        ("/usr/bin/apt", "show", "list"),
        ("/usr/bin/cat", "/proc/loadavg"),
        ("/usr/bin/test", "-d", "/"),
    ],
)
def test_what_tells_nothing_of_the_host_or_the_same_in_every_sandbox_is_left_alone(
    command: tuple[str, ...],
) -> None:
    assert why(NOTHING, *command) is None


def test_a_link_to_a_program_is_that_program() -> None:
    linked = Shown(leads_to={"/usr/local/bin/disk-check": "/usr/lib/nagios/plugins/check_disk"}.__getitem__)
    assert "check_disk" in (why(linked, "/usr/local/bin/disk-check", "-p", "/") or "")


def test_file_systems_are_measured_where_those_that_are_named_are_shown() -> None:
    shown = Shown(DISKS, measures=lambda path: path == "/")
    assert why(shown, "/usr/bin/df", "-P", "/") is None
    assert why(shown, "/usr/lib/nagios/plugins/check_disk", "-w", "9", args=("-p", "/")) is None
    assert "/var" in (why(shown, "/usr/lib/nagios/plugins/check_disk", "-p", "/", "-p", "/var") or "")


def test_a_script_is_known_if_it_is_a_plugin_by_its_name_or_nothing_but_one_command() -> None:
    perl = "#!/usr/bin/perl\nprint 1;"
    assert why_script(NOTHING, perl, "check_procs")
    assert why_script(NOTHING, perl, "check_procs.pl")
    assert why_script(NOTHING, perl, "ps") is None
    assert why_script(NOTHING, "#!/bin/sh\n# all of them\nset -e\ndf -P /  # the root\n")
    assert why_script(NOTHING, "#!/bin/sh\nLC_ALL=C df -P /\n")
    assert why_script(ALL, "#!/bin/sh\ndf -P /\n") is None
    assert why_script(NOTHING, "#!/bin/bash\nexec /usr/lib/nagios/plugins/check_procs -w 5\n")
    # Of these, only a note is certain.
    for script in ("df -P / >/dev/null; echo fine", "df -P /\necho fine", 'df "$1"', "test -e /var/x"):
        assert why_script(NOTHING, f"#!/bin/sh\n{script}\n") is None


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
    assert "df needs" not in await notes({"mode": "off"}, command)
    ps = ScriptRequest(ScriptKind.PROGRAM, command=("/usr/bin/ps",))
    assert "ps needs processes" in await notes({"mode": "off"}, ps), "it has a PID namespace all the same"


@requires("user namespaces")
async def test_a_command_is_unknown_where_it_was_not_shown_what_it_tells_of() -> None:
    async def verdict(filesystem: dict[str, object], *command: str) -> Verdict:
        snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"filesystem": filesystem}))
        result = await run_under(snapshot, ScriptRequest(ScriptKind.PROGRAM, command=command))
        return read(RunResult.model_validate(result.model_dump(mode="json")))

    said = await verdict({}, "/usr/bin/df", "-P", "/")
    assert (said.status, said.metrics) == ("unknown", {})
    assert "df needs disks in the policy's filesystem.hostView" in said.message
    assert (await verdict({"mode": "off"}, "/usr/bin/df", "-P", "/")).status == "healthy"
    # A file is known by whether it, or a directory that it is in, is shown.
    file = ("/usr/bin/test", "-e", "/var/lib/dpkg/status")
    assert (await verdict({}, *file)).status == "unknown"
    assert (await verdict({"hostPaths": ["/var/lib/dpkg"]}, *file)).status == "healthy"
    absent = ("/usr/bin/test", "-e", "/var/lib/dpkg/no-such-file")
    assert (await verdict({}, *absent)).status == "unknown"
    assert (await verdict({"hostPaths": ["/var/lib/dpkg"]}, *absent)).status == "unhealthy"
    assert (await verdict({}, "/usr/bin/test", "-e", "/usr/bin/env")).status == "healthy"
    # A run has files of these names that were made for it, and are not the host's.
    for made in ("/etc/hosts", "/etc/passwd", "/etc/no-such-file"):
        assert (await verdict({}, "/usr/bin/test", "-e", made)).status == "unknown"
    assert (await verdict({"hostPaths": ["/etc"]}, "/usr/bin/test", "-e", "/etc/hosts")).status == "healthy"
    # The root of a run with the host's disks is its own, but for their numbers.
    if "df" not in (await verdict({"hostView": ["disks"]}, "/usr/bin/df", "/")).message:
        assert (await verdict({"hostView": ["disks"]}, "/usr/bin/test", "-e", "/var/lib")).status == "unknown"
        assert (await verdict({"hostView": ["disks"]}, "/usr/bin/df", "/var/lib")).status == "unknown"


@requires("root")  # which gives runs a uid of their own, without which they are not shown processes
async def test_what_the_policy_grants_and_a_check_does_not_say_it_needs_is_asked_of_the_check() -> None:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"filesystem": {"hostView": ["processes"]}}))

    async def reason(needs: Needs | None) -> str | None:
        request = ScriptRequest(ScriptKind.PROGRAM, command=("/usr/bin/ps",), needs=needs)
        return (await run_under(snapshot, request)).untold

    assert await reason(None) is None
    assert await reason(Needs(host_view=(HostView.PROCESSES,))) is None
    assert "among its own needs" in (await reason(Needs()) or "")


@requires("user namespaces")
async def test_a_secret_among_what_a_command_is_given_is_not_told_in_the_reason() -> None:
    command = ("/usr/bin/test", "-e", "/srv/correct-horse")
    request = ScriptRequest(ScriptKind.PROGRAM, command=command, masked=("correct-horse",))
    result = await run_under(PolicySnapshot(DEFAULT_POLICY), request)
    assert result.untold is not None
    assert "correct-horse" not in result.model_dump_json()
