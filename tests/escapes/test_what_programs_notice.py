"""What programs come upon in a sandbox, as docs/limits.md tells it: what works, has no effect, or is refused."""

from __future__ import annotations

import json

from tests.escapes.conftest import Supervisor

TRIED = """
import json

told = {}

def tried(name, act):
    try:
        told[name] = act()
    except OSError as error:
        told[name] = error.strerror

def tell():
    print(json.dumps(told))
"""


def tried(supervisor: Supervisor, script: str) -> dict[str, object]:
    """What a script tells of each thing that it tried: its result, or the error."""
    result = supervisor.run("python", f"{TRIED}\n{script}\ntell()")
    told: dict[str, object] = json.loads(result.stdout or "{}")
    assert told, result.stderr
    return told


def test_programs_that_lower_their_claims_go_on_as_ever(cold_supervisor: Supervisor) -> None:
    script = "nice -n 5 ionice -c 3 taskset 0xffffffff sh -c 'ulimit -n 20; ulimit -c 0; echo fine'"
    result = cold_supervisor.run("shell", script)
    assert (result.stdout, result.exit_code) == ("fine\n", 0), result.stderr


def test_what_succeeds_without_effect_changes_nothing(cold_supervisor: Supervisor) -> None:
    script = """
import os, resource, socket
core = resource.getrlimit(resource.RLIMIT_CORE)
tried('core', lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
tried('core as before', lambda: resource.getrlimit(resource.RLIMIT_CORE) == core)
with socket.socket() as one:
    for name in ('SO_RCVBUF', 'SO_SNDBUF'):
        option = getattr(socket, name)
        size = one.getsockopt(socket.SOL_SOCKET, option)
        tried(name, lambda: one.setsockopt(socket.SOL_SOCKET, option, 1 << 20))
        tried(name + ' as before', lambda: one.getsockopt(socket.SOL_SOCKET, option) == size)
tried('sync', os.sync)
with open('file', 'wb') as file:
    tried('fsync', lambda: os.fsync(file.fileno()))
"""
    without_effect = ("core", "SO_RCVBUF", "SO_SNDBUF")
    assert tried(cold_supervisor, script) == {
        **dict.fromkeys((*without_effect, "sync", "fsync")),
        **dict.fromkeys((f"{name} as before" for name in without_effect), True),
    }


def test_what_belongs_to_files_and_not_to_processes_cannot_be_had(cold_supervisor: Supervisor) -> None:
    script = """
import ctypes, fcntl, os, struct
libc = ctypes.CDLL(None, use_errno=True)

def inotify():
    if libc.inotify_init1(0) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

file = os.open('file', os.O_RDWR | os.O_CREAT)
F_OFD_SETLK = 37
tried('inotify', inotify)
tried('lease', lambda: fcntl.fcntl(os.open('file', os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK))
lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0)
tried('lock of the open file', lambda: fcntl.fcntl(file, F_OFD_SETLK, lock))
tried('attribute', lambda: os.setxattr('file', 'user.a', b'a'))
tried('pipe', lambda: fcntl.fcntl(os.pipe()[1], fcntl.F_SETPIPE_SZ, 128 * 1024))
"""
    assert tried(cold_supervisor, script) == {
        "inotify": "Function not implemented",
        "lease": "Invalid argument",
        "lock of the open file": "Invalid argument",
        "attribute": "Operation not supported",
        "pipe": "Operation not permitted",
    }


def test_neither_objects_beside_the_file_system_nor_sandboxes_can_be_made(
    cold_supervisor: Supervisor,
) -> None:
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    def made():
        if getattr(libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return 'made'
    return made

IPC_CREAT, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, CLONE_NEWUSER, LANDLOCK_CREATE_RULESET = 0o1000, 22, 2, 0x10000000, 444
for name in ('msgget', 'semget', 'shmget'):
    tried(name, call(name, 7, *([] if name == 'msgget' else [1]), IPC_CREAT | 0o600))
tried('mq_open', call('mq_open', b'/queue', os.O_CREAT | os.O_RDWR, 0o600, None))
tried('filter', call('prctl', PR_SET_SECCOMP, SECCOMP_MODE_FILTER, None, 0, 0))
tried('unshare', call('unshare', CLONE_NEWUSER))
tried('landlock', call('syscall', LANDLOCK_CREATE_RULESET, None, 0, 1))
"""
    told = tried(cold_supervisor, script)
    assert "made" not in told.values()
    assert told.pop("landlock") == "Operation not supported", "as where it is switched off"
    assert len(told) == 6


def test_programs_that_hand_files_on_read_and_write_them_instead(cold_supervisor: Supervisor) -> None:
    script = """
import shutil, socket, subprocess, threading
text = bytes(range(256)) * 1000
open('one', 'wb').write(text)
shutil.copyfile('one', 'two')
subprocess.run(['cp', 'one', 'three'], check=True)
piped = subprocess.run('cat one | cat >four', shell=True, check=True)
server, got = socket.create_server(('127.0.0.1', 0)), []

def take():
    with server.accept()[0] as end, end.makefile('rb') as file:
        got.append(file.read())

taking = threading.Thread(target=take)
taking.start()
with socket.create_connection(server.getsockname()) as end:
    end.sendfile(open('one', 'rb'))
taking.join()
print([each == text for each in (*got, *(open(name, 'rb').read() for name in ('two', 'three', 'four')))])
"""
    assert cold_supervisor.run("python", script).stdout == "[True, True, True, True]\n"
