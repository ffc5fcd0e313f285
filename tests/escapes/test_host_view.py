"""What a policy shows of the host: paths and, where tools look for them, processes, disks and network; and no more."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ringfence.sandbox.policy import HostView
from ringfence.scripts import RunResult

from tests.escapes.conftest import Supervisor
from tests.escapes.reach import KEPT
from tests.primitives import requires
from tests.waiting import PATIENCE_SECONDS, wait_until

ALL = [each.value for each in HostView]

pytestmark = pytest.mark.every_wrapper


def seeing(*views: str, paths: tuple[str, ...] = (), **others: Any) -> dict[str, Any]:
    """A policy that shows these."""
    return {"filesystem": {"hostPaths": list(paths), "hostView": list(views)}, **others}


def sees_processes(supervisor: Supervisor) -> bool:
    """Whether its runs have uids of their own, without which they are not shown the host's processes."""
    result = supervisor.run("shell", "true")
    return "of the run's own" in result.sandbox.mechanisms["privilege"]


def views_of(supervisor: Supervisor) -> list[str]:
    """All that such a supervisor shows."""
    return ALL if sees_processes(supervisor) else ["disks", "network"]


@pytest.fixture
def shown() -> Iterator[Path]:
    """A directory of the host with a file, which everybody may read and write."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-shown-"))
    directory.chmod(0o777)
    (directory / "file").write_text("of the host")
    (directory / "file").chmod(0o666)
    yield directory
    shutil.rmtree(directory)


# Paths


def test_a_path_is_there_to_be_read_and_nothing_beside_it(supervisor: Supervisor, shown: Path) -> None:
    beside = shown.with_name(f"{shown.name}-beside")
    beside.write_text("not shown")
    try:
        script = f"cat {shown}/file; ls {beside}; ls /root /home /var /opt"
        result = supervisor.run("shell", script, policy=seeing(paths=(str(shown),)))
    finally:
        beside.unlink()
    assert result.stdout == "of the host"
    assert str(shown) in result.sandbox.mechanisms["hostPaths"]
    assert result.sandbox.enforced.filesystem


def test_a_single_file_can_be_shown(cold_supervisor: Supervisor, shown: Path) -> None:
    path = f"{shown}/file"
    result = cold_supervisor.run("shell", f"cat {path}; ls {shown}", policy=seeing(paths=(path,)))
    assert result.stdout == "of the hostfile\n"


WRITES = """
import ctypes, fcntl, os, socket, sys
top = TOP
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, attempted):
    try:
        attempted()
        print(what)
    except OSError:
        pass
attempt('write', lambda: os.open(f'{top}/file', os.O_WRONLY))
attempt('read and write', lambda: os.open(f'{top}/file', os.O_RDWR))
attempt('truncate', lambda: os.truncate(f'{top}/file', 0))
attempt('make', lambda: os.open(f'{top}/new', os.O_WRONLY | os.O_CREAT))
attempt('directory', lambda: os.mkdir(f'{top}/new'))
attempt('link', lambda: os.symlink('/', f'{top}/new'))
attempt('hard link', lambda: os.link(f'{top}/file', f'{top}/new'))
attempt('remove', lambda: os.unlink(f'{top}/file'))
attempt('rename', lambda: os.rename(f'{top}/file', f'{top}/new'))
attempt('mode', lambda: os.chmod(f'{top}/file', 0o600))
attempt('times', lambda: os.utime(f'{top}/file'))
attempt('attribute', lambda: os.setxattr(f'{top}/file', 'user.x', b'x'))
attempt('by descriptor', lambda: os.open(f'/proc/self/fd/{os.open(f"{top}/file", os.O_RDONLY)}', os.O_WRONLY))
attempt('lock', lambda: fcntl.flock(os.open(f'{top}/file', os.O_RDONLY), fcntl.LOCK_EX))
if libc.mount(None, top.encode(), None, 4096 | 32, None) == 0:
    print('remounted')
"""


def test_nothing_can_be_written_through_it(cold_supervisor: Supervisor, shown: Path) -> None:
    script = WRITES.replace("TOP", repr(str(shown)))
    result = cold_supervisor.run("python", script, policy=seeing(paths=(str(shown),)))
    assert (result.stdout, result.stderr) == ("", "")
    assert (shown / "file").read_text() == "of the host"
    assert os.listdir(shown) == ["file"]


def test_a_socket_among_it_cannot_be_connected_to(cold_supervisor: Supervisor, shown: Path) -> None:
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(f"{shown}/socket")
        served.listen()
        (shown / "socket").chmod(0o777)
        script = f"""
import socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
        socket.socket(socket.AF_UNIX, kind).connect('{shown}/socket')
        print('connected')
    except OSError:
        pass
try:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b'x', '{shown}/socket')
    print('sent')
except OSError:
    pass
print(len(socket.socketpair()))
"""
        result = cold_supervisor.run("python", script, policy=seeing(paths=(str(shown),)))
    assert result.stdout == "2\n", result.stderr


@requires("root")
def test_a_device_among_it_is_none(cold_supervisor: Supervisor, shown: Path) -> None:
    os.mknod(f"{shown}/null", 0o20666, os.makedev(1, 3))
    (shown / "null").chmod(0o666)
    result = cold_supervisor.run(
        "shell", f"cat {shown}/null && echo open", policy=seeing(paths=(str(shown),))
    )
    assert result.stdout == ""
    assert "Permission denied" in result.stderr


def lacking(supervisor: Supervisor, policy: dict[str, Any]) -> RunResult:
    """A run under a policy that goes on with what there is."""
    return supervisor.run("shell", "true", policy={**policy, "onUnavailable": "degrade"})


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/proc/1", "which a run has of its own"),
        ("/sys/kernel", "which a run has of its own"),
        ("/dev/null", "which a run has of its own"),
        (None, "No such file or directory"),
        ("socket", "a device, a socket or a named pipe"),
        ("pipe", "a device, a socket or a named pipe"),
    ],
)
def test_what_is_no_file_or_leads_elsewhere_is_lacking_by_name(
    cold_supervisor: Supervisor, shown: Path, target: str | None, why: str
) -> None:
    path = shown / "asked"
    with contextlib.ExitStack() as held:
        if target == "socket":
            held.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
        elif target == "pipe":
            os.mkfifo(path)
        elif target is not None:
            path.symlink_to(target)
        result = lacking(cold_supervisor, seeing(paths=(str(path),)))
    [downgrade] = result.sandbox.downgrades
    assert (downgrade.layer, str(path) in downgrade.reason, why in downgrade.reason) == (
        "filesystem",
        True,
        True,
    )


def test_a_link_is_followed_on_the_host_and_shown_by_its_own_name(
    cold_supervisor: Supervisor, shown: Path
) -> None:
    link = shown / "link"
    link.symlink_to(shown / "file")
    result = cold_supervisor.run("shell", f"cat {link}; ls {shown}", policy=seeing(paths=(str(link),)))
    assert result.stdout == "of the hostlink\n"


def test_all_is_shown_but_for_what_is_a_runs_own_and_for_secrets(cold_supervisor: Supervisor) -> None:
    script = """
ls / | tr '\\n' ' '
for path in /etc/shadow /etc/ssl/private/x /root/.ssh/id /proc/1/environ /var/lib/ringfence/secrets-key; do
    cat $path && echo "read $path"
done
touch /x /etc/x /usr/x /var/tmp/x /run/x /var/x /home/x && echo wrote
ls -A /tmp | tr '\\n' ' '
"""
    result = cold_supervisor.run("shell", script, policy=seeing(paths=("/",)))
    assert {"etc", "usr", "var", "proc", "tmp", "dev"} <= set(result.stdout.split())
    assert "read" not in result.stdout
    assert "wrote" not in result.stdout
    assert "root:" in cold_supervisor.run("shell", "cat /etc/passwd", policy=seeing(paths=("/",))).stdout


def test_what_the_supervisor_keeps_is_covered(cold_supervisor: Supervisor) -> None:
    kept = Path(KEPT)
    kept.mkdir(parents=True, exist_ok=True)
    try:
        (kept / "token").write_text("a secret")
        script = f"cat {kept}/token; ls -A {kept}; ls -d {kept}"
        result = cold_supervisor.run("shell", script, policy=seeing(paths=(str(kept.parent),)))
        assert result.stdout == f"{kept}\n"
    finally:
        shutil.rmtree(kept.parent)


def test_the_places_of_other_runs_scripts_are_covered(cold_supervisor: Supervisor) -> None:
    script = "for place in /var/tmp /run /tmp /dev/shm; do ls -A $place/ringfence-scratch-*; done 2>/dev/null; true"
    result = cold_supervisor.run("shell", script, policy=seeing(paths=("/",)))
    assert "lock" not in result.stdout


def command_of(process: psutil.Process) -> list[str]:
    """Its arguments; none of one that has ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


PLACE = """
import sys
from ringfence.sandbox.launch.making.scratch import Place
place = Place("/var/tmp")
open(f"{place.path}/a-script", "w").close()
print("made", flush=True)
sys.stdin.read()
place.close()
"""


def test_the_places_of_runs_that_start_later_are_covered_too(
    cold_supervisor: Supervisor, shown: Path
) -> None:
    """Also for a run that has the uid of whoever makes them, as another supervisor of the same user."""
    python, package = cold_supervisor.command
    uid = Path(f"/proc/{cold_supervisor.pid}").stat().st_uid
    nap = f"0.1{os.getpid():07}"
    look = "ls -AR /var/tmp/ringfence-scratch-* 2>/dev/null; echo done"
    script = f"until [ -e {shown}/made ]; do sleep {nap}; done; {look}"
    policy = seeing(paths=("/var/tmp", str(shown)))
    cold_supervisor.begin([cold_supervisor.order("shell", script, policy=policy)])
    wait_until(lambda: any(nap in words for each in psutil.process_iter() for words in command_of(each)))
    with subprocess.Popen(
        [python, "-c", PLACE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(package)},
        cwd="/",
        user=uid,
        group=uid,
        extra_groups=[],
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"made\n"
        finally:
            (shown / "made").touch()
        [result] = cold_supervisor.end(PATIENCE_SECONDS)
    assert result.stdout.endswith("done\n"), result
    assert "a-script" not in result.stdout


# Processes

OTHERS = """
import glob, json, os
opened = []
for process in glob.glob('/proc/[0-9]*') + glob.glob('/proc/host/[0-9]*'):
    try:
        own = os.readlink(f'{process}/ns/user') == os.readlink('/proc/self/ns/user')
    except OSError:
        own = False
    for name in ('environ', 'mem', 'auxv', 'stack', 'syscall', 'pagemap', 'smaps', 'maps'):
        try:
            with open(f'{process}/{name}', 'rb') as file:
                if file.read(1) and not own:
                    opened.append(f'{process}/{name}')
        except OSError:
            pass
    for name in ('fd', 'fdinfo', 'map_files', 'root/', 'cwd/'):
        try:
            # Who has the same uid, as the run's own wrapper, is seen to have descriptors, and not which.
            seen = [each for each in os.listdir(f'{process}/{name}') if os.path.exists(f'{process}/{name}/{each}')]
            if seen and not own:
                opened.append(f'{process}/{name}')
        except OSError:
            pass
print(json.dumps(opened))
"""


def test_nothing_but_what_everybody_sees_is_seen_of_other_processes(supervisor: Supervisor) -> None:
    if not sees_processes(supervisor):
        pytest.skip("this supervisor's runs have its own uid, and are not shown processes")
    result = supervisor.run("python", OTHERS, policy=seeing(*ALL, paths=("/",)))
    assert json.loads(result.stdout) == [], result.stderr


def test_the_supervisors_environment_is_not_seen(cold_supervisor: Supervisor) -> None:
    script = "cat /proc/[0-9]*/environ /proc/host/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true"
    policy = seeing(*views_of(cold_supervisor), paths=("/",))
    assert "swordfish" not in cold_supervisor.run("shell", script, policy=policy).stdout


INIT = """
import glob, os
own = os.readlink('/proc/self/ns/pid')
def attempt(what, attempted):
    try:
        attempted()
        print(what)
    except OSError:
        pass
inits = []
for process in glob.glob('/proc/host/[0-9]*'):
    try:
        if os.readlink(f'{process}/ns/pid') == own and open(f'{process}/status').read().find('NSpid') > 0:
            inits.append(process)
    except OSError:
        pass
assert inits
for process in inits:
    for name in ('mem', 'oom_score_adj', 'comm', 'clear_refs', 'coredump_filter', 'timerslack_ns'):
        attempt(name, lambda: os.open(f'{process}/{name}', os.O_WRONLY))
    attempt('mode', lambda: os.chmod(f'{process}/exe', 0o777))
    attempt('program', lambda: os.open(f'{process}/exe', os.O_WRONLY))
    for number in os.listdir(f'{process}/fd'):
        if int(number) > 2:
            attempt(f'{number} of {process}', lambda: os.open(f'{process}/fd/{number}', os.O_WRONLY))
"""


def test_the_runs_own_init_cannot_be_changed_by_its_name_on_the_host(cold_supervisor: Supervisor) -> None:
    if not sees_processes(cold_supervisor):
        pytest.skip("this supervisor's runs have its own uid, and are not shown processes")
    result = cold_supervisor.run("python", INIT, policy=seeing("processes"))
    # A script's own descriptors are its own to write to; these are the bootstrap's channel, which nobody reads.
    told = [line for line in result.stdout.splitlines() if " of " not in line]
    assert (told, result.stderr) == ([], "")


def test_no_process_of_the_host_can_be_signalled(cold_supervisor: Supervisor) -> None:
    if not sees_processes(cold_supervisor):
        pytest.skip("this supervisor's runs have its own uid, and are not shown processes")
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        script = f"""
import os, signal
for attempted in (lambda: os.kill({sleeper.pid}, 9),
                  lambda: signal.pidfd_send_signal(os.open('/proc/host/{sleeper.pid}', os.O_RDONLY), 9),
                  lambda: signal.pidfd_send_signal(os.pidfd_open({sleeper.pid}), 9)):
    try:
        attempted()
        print('signalled')
    except (OSError, ProcessLookupError):
        pass
print(os.path.exists('/proc/{sleeper.pid}/stat'))
"""
        try:
            assert cold_supervisor.run("python", script, policy=seeing("processes")).stdout == "True\n"
            assert sleeper.poll() is None
        finally:
            sleeper.kill()


WRITABLE = """
import os, stat
found = []
for top in ('/proc', '/sys'):
    for directory, within, names in os.walk(top):
        # A process's own descriptors are whatever it has open.
        within[:] = [each for each in within if each not in ('fd', 'task') and not each.isdigit()]
        for name in names:
            path = f'{directory}/{name}'
            if os.path.islink(path):
                continue
            try:
                if stat.S_ISCHR(os.stat(path).st_mode):
                    continue  # A mask may be the device that swallows all.
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                found.append(path)
            except OSError:
                pass
print(found)
"""


def test_nothing_of_proc_and_sys_can_be_opened_for_writing(cold_supervisor: Supervisor) -> None:
    policy = seeing(*views_of(cold_supervisor))
    assert cold_supervisor.run("python", WRITABLE, policy=policy).stdout == "[]\n"


def test_a_run_that_has_its_supervisors_uid_is_not_shown_processes(cold_supervisor: Supervisor) -> None:
    if sees_processes(cold_supervisor):
        policy = seeing("processes", privilege={"uid": 65532, "gid": 65532})
    else:
        policy = seeing("processes")
    [downgrade] = lacking(cold_supervisor, policy).sandbox.downgrades
    assert "runs have no uid of their own" in downgrade.reason


def test_the_hosts_processes_are_listed(supervisor: Supervisor) -> None:
    if not sees_processes(supervisor):
        pytest.skip("this supervisor's runs have its own uid, and are not shown processes")
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        try:
            script = f"ps -e -o pid= -o comm= | grep -w {sleeper.pid}; free >/dev/null && echo fine"
            result = supervisor.run("shell", script, policy=seeing("processes"))
        finally:
            sleeper.kill()
    assert result.stdout.split() == [str(sleeper.pid), "sleep", "fine"], result.stderr


# What is still counted


def test_the_limits_of_a_run_hold_beside_it(cold_supervisor: Supervisor) -> None:
    policy = seeing(*views_of(cold_supervisor), resources={"memoryBytes": 64 * 2**20})
    script = "held = [bytearray(2**20) for _ in range(400)]; print('had it')"
    result = cold_supervisor.run("python", script, policy=policy)
    assert "had it" not in result.stdout


# Disks and network


def test_the_root_has_the_numbers_of_the_hosts(supervisor: Supervisor) -> None:
    script = "df -P / | tail -1; cat /proc/mounts; echo; cat /etc/mtab"
    result = supervisor.run("shell", script, policy=seeing("disks"))
    here = os.statvfs("/")
    device, size, *_ = result.stdout.splitlines()[0].split()
    assert int(size) == here.f_blocks * here.f_frsize // 1024
    mounts = Path("/proc/mounts").read_text()
    assert f"{device} / " in mounts or device == "overlay"
    first, second = result.stdout.partition("\n")[2].split("\n\n", 1)
    assert first.strip() == second.strip() == mounts.strip()


def test_disks_show_no_files(cold_supervisor: Supervisor, shown: Path) -> None:
    script = (
        f"cat {shown}/file; ls /root /home /srv /var/lib /opt; touch /x /etc/x /dev/x && echo wrote; true"
    )
    result = cold_supervisor.run("shell", script, policy=seeing("disks"))
    assert result.stdout == ""


def test_the_hosts_counters_are_where_tools_look_for_them(cold_supervisor: Supervisor) -> None:
    script = """
echo $HOST_PROC $HOST_SYS
ls /sys/block | tr '\\n' ' '
cut -d' ' -f1,2 /proc/diskstats >/dev/null && echo
"""
    result = cold_supervisor.run("shell", script, policy=seeing("disks"))
    first, second = result.stdout.splitlines()[:2]
    assert first == "/proc /sys"
    assert second.split() == sorted(os.listdir("/sys/block"))


def test_the_hosts_sockets_and_interfaces_are_listed(cold_supervisor: Supervisor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as served:
        port = served.getsockname()[1]
        script = f"grep -c :{port:04X} /proc/net/tcp; ls /sys/class/net | tr '\\n' ' '"
        result = cold_supervisor.run("shell", script, policy=seeing("network"))
        listed, interfaces = result.stdout.splitlines()
        assert int(listed) >= 1
        assert set(interfaces.split()) == set(os.listdir("/sys/class/net"))
        # Its own network is what it was.
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        assert cold_supervisor.run("python", connect, policy=seeing("network")).exit_code != 0


@requires("ss")
def test_ss_lists_the_hosts_sockets(cold_supervisor: Supervisor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as served:
        result = cold_supervisor.run("shell", "ss -tln", policy=seeing("network"))
        assert f"127.0.0.1:{served.getsockname()[1]} " in result.stdout, result.stderr


@requires("iostat")
def test_iostat_tells_of_the_hosts_disks(cold_supervisor: Supervisor) -> None:
    def disks(printed: str) -> set[str]:
        return {
            one["disk_device"] for one in json.loads(printed)["sysstat"]["hosts"][0]["statistics"][0]["disk"]
        }

    command = ("iostat", "-d", "-p", "ALL", "-o", "JSON")
    here = disks(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    result = cold_supervisor.run("shell", " ".join(command), policy=seeing("disks"))
    assert disks(result.stdout) == here != set(), result.stderr


PSUTIL = """
import json, os, sys
sys.path.insert(0, DIRECTORY)
import psutil
def main(context):
    return {
        'boot': psutil.boot_time(),
        'memory': psutil.virtual_memory().total,
        'processors': psutil.cpu_count(),
        'root': psutil.disk_usage('/').total,
        'mounts': sorted(each.mountpoint for each in psutil.disk_partitions(all=True)),
        'disks': sorted(psutil.disk_io_counters(perdisk=True)),
        'interfaces': sorted(psutil.net_io_counters(pernic=True)),
        'listening': sorted({each.laddr.port for each in psutil.net_connections('tcp4') if each.status == 'LISTEN'}),
        'names': {each.pid: each.name() for each in psutil.process_iter()} if 'processes' in VIEWS else {},
    }
"""


def test_psutil_tells_of_the_host(cold_supervisor: Supervisor, shown: Path) -> None:
    shutil.copytree(Path(psutil.__file__).parent, shown / "psutil")
    views = views_of(cold_supervisor)
    script = PSUTIL.replace("DIRECTORY", repr(str(shown))).replace("VIEWS", repr(views))
    child = subprocess.Popen(["sleep", "1000"])
    try:
        with socket.create_server(("127.0.0.1", 0)) as served:
            result = cold_supervisor.run("python", script, policy=seeing(*views, paths=(str(shown),)))
            told: dict[str, Any] = result.value
            assert told is not None, result.stderr
            assert served.getsockname()[1] in told["listening"]
        assert abs(told["boot"] - psutil.boot_time()) < 5
        assert told["memory"] == psutil.virtual_memory().total
        assert told["processors"] == psutil.cpu_count()
        assert told["root"] == psutil.disk_usage("/").total
        assert told["mounts"] == sorted(each.mountpoint for each in psutil.disk_partitions(all=True))
        assert told["disks"] == sorted(psutil.disk_io_counters(perdisk=True))
        assert told["interfaces"] == sorted(psutil.net_io_counters(pernic=True))
        if "processes" in views:
            assert told["names"][str(child.pid)] == "sleep"
    finally:
        child.kill()
        child.wait()


def test_without_a_grant_nothing_of_the_host_is_there(cold_supervisor: Supervisor) -> None:
    result = cold_supervisor.run(
        "shell", "ls /sys /proc/host /proc/own; ls -d /proc/[0-9]* | wc -l; echo $HOST_PROC"
    )
    assert int(result.stdout.split()[0]) < 10
    assert len(result.stdout.split()) == 1


def test_all_at_once_works_with_the_wrapper_of_these_tests(cold_supervisor: Supervisor) -> None:
    policy = seeing(*views_of(cold_supervisor), paths=("/",))
    result = cold_supervisor.run(
        "python", "print(open('/proc/self/comm').read().strip() and 'fine')", policy=policy
    )
    assert result.stdout == "fine\n", result.stderr


@pytest.mark.parametrize("paths", [(), ("/",)])
def test_what_runs_a_program_is_found_where_links_of_the_root_lead(
    cold_supervisor: Supervisor, paths: tuple[str, ...]
) -> None:
    result = cold_supervisor.run(
        "program", "#!/bin/sh\necho run by $0\n", policy=seeing("disks", paths=paths)
    )
    assert result.stdout.startswith("run by /"), result.stderr
