"""Making, joining or leaving namespaces; mounts; changing the root."""

from __future__ import annotations

import pytest

from tests.escapes.conftest import Supervisor

pytestmark = pytest.mark.every_wrapper

SYSCALLS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    return 'done' if result >= 0 else os.strerror(ctypes.get_errno())
"""


@pytest.mark.parametrize(
    "flags",
    ["--user", "--user --map-root-user", "--net", "--mount", "--pid --fork", "--uts", "--ipc", "--cgroup"],
)
def test_no_namespace_can_be_made(supervisor: Supervisor, flags: str) -> None:
    result = supervisor.run("shell", f"unshare {flags} true && echo made")
    assert result.stdout == ""
    assert "not permitted" in result.stderr or "failed" in result.stderr


def test_clone_with_a_namespace_flag_is_refused(supervisor: Supervisor) -> None:
    script = (
        SYSCALLS
        + """
number = {'x86_64': 56, 'aarch64': 220}[os.uname().machine]
for flag in (0x10000000, 0x40000000, 0x20000000, 0x00020000, 0x10000000 | 1 << 40):
    result = libc.syscall(ctypes.c_long(number), ctypes.c_ulong(flag | 17), None, None, None, None)
    if result == 0: os._exit(0)
    print(result)
"""
    )
    assert supervisor.run("python", script).stdout.split() == ["-1"] * 5


def test_clone3_is_absent(supervisor: Supervisor) -> None:
    script = SYSCALLS + "a = (ctypes.c_uint64 * 11)(0x10000000)\nprint(call(435, a, 88))"
    assert supervisor.run("python", script).stdout == "Function not implemented\n"


def test_no_other_namespace_can_be_joined(supervisor: Supervisor) -> None:
    script = (
        "import os\n"
        + SYSCALLS
        + """
number = {'x86_64': 308, 'aarch64': 268}[os.uname().machine]
for kind in ('user', 'mnt', 'net', 'pid'):
    print(call(number, os.open('/proc/self/ns/' + kind, os.O_RDONLY), 0))
"""
    )
    assert supervisor.run("python", script).stdout == "Operation not permitted\n" * 4


def test_nothing_can_be_mounted_and_the_root_cannot_be_changed(supervisor: Supervisor) -> None:
    script = (
        SYSCALLS
        + """
m = os.uname().machine == 'x86_64'
os.mkdir('/tmp/m')
print(call(165 if m else 40, b'none', b'/tmp/m', b'tmpfs', 0, None))      # mount
print(call(166 if m else 39, b'/usr', 2))                                 # umount2
print(call(155 if m else 41, b'/tmp/m', b'/tmp/m'))                       # pivot_root
print(call(161 if m else 51, b'/tmp/m'))                                  # chroot
print(call(428, -100, b'/usr', 1))                                        # open_tree
print(call(429, -100, b'/usr', -100, b'/tmp/m', 0))                       # move_mount
print(call(430, b'tmpfs', 0))                                             # fsopen
print(call(442, -100, b'/', 0, (ctypes.c_uint64 * 4)(0, 1), 32))          # mount_setattr
print(call(304 if m else 265, 0, None, 0))                                # open_by_handle_at
"""
    )
    result = supervisor.run("python", script)
    assert result.stdout.count("\n") == 9, result.stderr
    assert "done" not in result.stdout
