"""Reading what is not the script's to read, and writing what is not its to write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.escapes.conftest import Supervisor

SECRET = "ringfence-secret-of-the-host"


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file of the host that anybody there may read."""
    descriptor, path = tempfile.mkstemp(prefix="ringfence-secret-")
    os.write(descriptor, SECRET.encode())
    os.close(descriptor)
    Path(path).chmod(0o644)
    yield Path(path)
    Path(path).unlink()


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/etc/hostname.host", "/root", "/home", "/var", "/run", "/sys", "/opt", "/srv", "/mnt"],
)
def test_places_of_the_host_are_not_there(supervisor: Supervisor, path: str) -> None:
    result = supervisor.run("shell", f"ls -d {path} && cat {path}")
    assert result.exit_code != 0
    assert result.stdout == ""


def test_etc_holds_nothing_but_what_was_made_or_is_needed(supervisor: Supervisor) -> None:
    names = set(supervisor.run("shell", "ls -A /etc").stdout.split())
    names -= {name for name in names if name.startswith("java-")}
    assert names <= {
        "alternatives",
        "crypto-policies",
        "group",
        "hostname",
        "hosts",
        "ld-musl-aarch64.path",
        "ld-musl-x86_64.path",
        "ld.so.cache",
        "ld.so.conf",
        "localtime",
        "mime.types",
        "nsswitch.conf",
        "os-release",
        "passwd",
        "pki",
        "protocols",
        "resolv.conf",
        "services",
        "ssl",
        "timezone",
    }
    assert set(supervisor.run("shell", "ls -A /etc/ssl").stdout.split()) <= {"certs", "openssl.cnf"}


def test_the_only_user_is_the_scripts_own(supervisor: Supervisor) -> None:
    result = supervisor.run("shell", "cat /etc/passwd; id -un")
    assert result.stdout.count("\n") == 2
    assert result.stdout.splitlines()[1] == "sandbox"
    assert f":{supervisor.uid}:" in result.stdout


def test_a_world_readable_file_of_the_host_is_out_of_reach(supervisor: Supervisor, secret: Path) -> None:
    script = f"cat {secret}; for root in /proc/*/root /proc/*/cwd; do cat $root{secret}; done"
    assert SECRET not in supervisor.run("shell", script).stdout


def test_nothing_but_scratch_and_tmp_can_be_written(supervisor: Supervisor) -> None:
    script = "for d in / /etc /usr /usr/bin /dev /proc /proc/sys/kernel; do touch $d/x && echo $d; done; true"
    assert supervisor.run("shell", script).stdout == ""
    assert supervisor.run("shell", "touch ~/x /tmp/x /dev/shm/x && echo ok").stdout == "ok\n"


def test_a_read_only_place_cannot_be_made_writable_again(supervisor: Supervisor) -> None:
    script = (
        "mount -o remount,rw /; mount -o remount,bind,rw /usr; chmod 777 /; touch /x /usr/x && echo wrote"
    )
    assert "wrote" not in supervisor.run("shell", script).stdout


def test_the_kernels_own_switches_cannot_be_turned(supervisor: Supervisor) -> None:
    script = """
for switch in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /proc/sys/vm/drop_caches
do echo h > $switch && echo turned $switch; done
for file in /proc/kcore /proc/kmsg /proc/1/mem /dev/mem /dev/kmsg /dev/sda /dev/vda
do head -c 1 $file > /dev/null && echo read $file; done
true"""
    assert supervisor.run("shell", script).stdout == ""


def test_no_device_can_be_made(supervisor: Supervisor) -> None:
    script = (
        "mknod /tmp/disk b 8 0 && echo made; mknod /tmp/null c 1 3 && cat /tmp/null && echo read; ls /dev"
    )
    result = supervisor.run("shell", script)
    assert "made" not in result.stdout
    assert "read" not in result.stdout
    assert set(result.stdout.split()) == {
        *("fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero")
    }


def test_one_runs_scratch_is_not_anothers(supervisor: Supervisor) -> None:
    look = "for n in $(seq 50); do ls /tmp/*/mine /proc/*/root/tmp/mine /proc/*/cwd/mine; done 2>/dev/null"
    write = "echo theirs > /tmp/mine; echo theirs > mine; sleep 0.5"
    written, seen = supervisor.run_all([supervisor.order("shell", write), supervisor.order("shell", look)])
    assert written.exit_code == 0
    assert seen.stdout == ""


def test_scratch_is_empty_at_the_start_whatever_the_run_before_left(supervisor: Supervisor) -> None:
    supervisor.run("shell", "echo x > ~/left; echo x > /tmp/left; echo x > /dev/shm/left")
    script = "find /tmp -type f"
    assert supervisor.run("shell", script).stdout == "/tmp/script/script.sh\n"


@pytest.mark.parametrize("kind", ["shell", "python"])
def test_a_script_cannot_be_changed_from_outside_once_it_was_handed_over(
    supervisor: Supervisor, kind: str
) -> None:
    script = {
        "shell": "ls -l /proc/$$/fd",
        "python": "import os; print(sorted(os.listdir('/proc/self/fd')))",
    }[kind]
    assert "payload" not in supervisor.run(kind, script).stdout.replace("ringfence-payload (deleted)", "", 1)


def test_the_hosts_devices_tell_nobody_anything(cold_supervisor: Supervisor) -> None:
    """Everybody may write to them, and so change their times; and everybody sees these."""
    script = """
import os
for name in ('null', 'zero', 'full', 'random', 'urandom'):
    try:
        os.utime('/dev/' + name)
        print('changed', name)
    except OSError as error:
        print(error.strerror)
open('/dev/null', 'w').write('x')
"""
    result = cold_supervisor.run("python", script)
    assert (result.stdout, result.stderr) == ("Read-only file system\n" * 5, "")


def test_how_full_the_hosts_file_systems_are_is_seen_as_the_documents_say(
    cold_supervisor: Supervisor,
) -> None:
    """By where a run's files come from; no mount could hide it, but for a copy of all of them."""
    result = cold_supervisor.run("python", "import os; print(os.statvfs('/usr').f_blocks)")
    assert int(result.stdout) == os.statvfs("/usr").f_blocks
