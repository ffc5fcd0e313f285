"""Raw system calls that lead into the kernel's darker corners, and the ways around a filter."""

from __future__ import annotations

import platform

import pytest

from tests.escapes.conftest import Supervisor
from tests.escapes.test_namespaces import SYSCALLS

pytestmark = pytest.mark.every_wrapper

REFUSED = {
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "acct": (163, 89),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "settimeofday": (164, 170),
    "sethostname": (170, 161),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "fanotify_init": (300, 262),
    "vmsplice": (278, 75),
    "io_setup": (206, 0),
}


def test_dangerous_calls_are_refused(supervisor: Supervisor) -> None:
    index = 0 if platform.machine() == "x86_64" else 1
    lines = "".join(
        f"print({name!r}, call({numbers[index]}, 0, 0, 0, 0, 0, 0))\n" for name, numbers in REFUSED.items()
    )
    result = supervisor.run("python", SYSCALLS + lines)
    answers = dict(line.split(" ", 1) for line in result.stdout.splitlines())
    assert set(answers) == set(REFUSED), result.stderr
    refusals = {"Operation not permitted", "Function not implemented"}
    assert {name: answer for name, answer in answers.items() if answer not in refusals} == {}


def test_a_call_that_is_not_known_yet_is_absent(supervisor: Supervisor) -> None:
    result = supervisor.run("python", SYSCALLS + "print(call(600)); print(call(1000))")
    assert result.stdout == "Function not implemented\n" * 2


def test_keystrokes_cannot_be_pushed_into_a_terminal(supervisor: Supervisor) -> None:
    script = """
import fcntl
for number in (0x5412, 0x541C):  # TIOCSTI, TIOCLINUX
    try:
        fcntl.ioctl(0, number, b'x')
        print('pushed')
    except OSError as error:
        print(error.errno)
"""
    assert supervisor.run("python", script).stdout.split() == ["1", "1"]


def test_a_tcp_socket_cannot_be_made_into_something_else(supervisor: Supervisor) -> None:
    script = """
import errno, socket
with socket.create_server(('127.0.0.1', 0)) as listener, socket.create_connection(listener.getsockname()) as end:
    for protocol in (b'tls', b'smc', b'espintcp', b'mptcp'):
        try:
            end.setsockopt(socket.IPPROTO_TCP, 31, protocol)  # TCP_ULP
            print('made', protocol)
        except OSError as error:
            print(errno.errorcode[error.errno])
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""
    result = supervisor.run("python", script)
    assert (result.stdout.split(), result.stderr) == (["ENOPROTOOPT"] * 4, "")


def test_a_socket_cannot_send_from_an_address_that_is_not_its_own(supervisor: Supervisor) -> None:
    """Whoever lets a sandbox in by its address must not let in another that says it is the same."""
    script = """
import errno, socket
for family, level, option, address in (
    (socket.AF_INET, 0, 15, '192.0.2.1'),  # IP_FREEBIND
    (socket.AF_INET6, 41, 78, '2001:db8::1'),  # IPV6_FREEBIND
    (socket.AF_INET6, 0, 15, '::ffff:192.0.2.1'),
):
    with socket.socket(family, socket.SOCK_DGRAM) as end:
        try:
            end.setsockopt(level, option, 1)
            end.bind((address, 0))
            print('bound to', address)
        except OSError as error:
            print(errno.errorcode[error.errno])
"""
    result = supervisor.run("python", script)
    assert (result.stdout.split(), result.stderr) == (["ENOPROTOOPT"] * 3, "")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is an interface of x86_64")
def test_the_x32_interface_is_refused(supervisor: Supervisor) -> None:
    script = SYSCALLS + "print(call(0x40000000 | 39)); print(call(0x40000000 | 272, 0x10000000))"
    assert "done" not in supervisor.run("python", script).stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="i386 is an interface of x86_64")
def test_the_i386_interface_kills_the_process(supervisor: Supervisor) -> None:
    # mov eax, 20 (getpid); int 0x80; ret
    script = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)
page.write(bytes.fromhex('b814000000cd80c3'))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print('before', flush=True)
print('got', ctypes.CFUNCTYPE(ctypes.c_int)(address)())
"""
    result = supervisor.run("python", script)
    assert result.stdout == "before\n"
    assert result.exit_code == 128 + 31  # SIGSYS


def test_the_filter_and_no_new_privileges_are_on_for_every_child(supervisor: Supervisor) -> None:
    script = "grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd|CapPrm)' /proc/self/status"
    facts = dict(line.split(":") for line in supervisor.run("shell", script).stdout.splitlines())
    assert facts["NoNewPrivs"].strip() == "1"
    assert facts["Seccomp"].strip() == "2"
    assert {int(facts[name], 16) for name in ("CapEff", "CapBnd", "CapPrm")} == {0}
