"""Takes rights from its own process, for good, and then becomes the script's interpreter. Run as a script.

It is run by the run's uid, by descriptor, with nothing but the standard library, and decides nothing: its orders are
numbers and paths on descriptor 7 (see `landlock.Confinement`). Its arguments are the program to become. If a
part of the orders cannot be carried out, it ends with 125 and the program never starts.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import signal
import stat
import sys
from typing import Any

PROGRAM, ORDERS = 6, 7
"""The descriptors of this file and of its orders; both are closed before the program starts."""

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
RULE_PATH_BENEATH, RULE_NET_PORT = 1, 2
CONNECT_TCP = 1 << 1
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2

FILE_ACCESS = 0b1100_0000_0000_0111
"""What a rule about a file, and not a directory, may name: execute, write, read, truncate, device ioctl."""

_libc = ctypes.CDLL(None, use_errno=True)


class RulesetAttributes(ctypes.Structure):
    """The kernel's `struct landlock_ruleset_attr`."""

    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class PathBeneath(ctypes.Structure):
    """The kernel's `struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class NetPort(ctypes.Structure):
    """The kernel's `struct landlock_net_port_attr`."""

    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


class Program(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def checked(result: int, what: str) -> int:
    """The result of a call that must succeed."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def allow_path(ruleset: int, path: str, access: int) -> None:
    """Add a rule; a path that is not there needs none."""
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(parent).st_mode):
        access &= FILE_ACCESS
    rule = PathBeneath(access, parent)
    checked(_libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), 0), f"a rule for {path}")
    os.close(parent)


def confine(orders: dict[str, Any]) -> None:
    """Carry the orders out. Raises OSError where the kernel does not let us."""
    checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if any(orders["attributes"]):
        restrict(orders)
    for text in orders["filters"]:
        code = base64.b64decode(text)
        loaded = Program(len(code) // 8, code)
        checked(
            _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0), "a syscall filter"
        )


def restrict(orders: dict[str, Any]) -> None:
    """The part of the orders that is Landlock's."""
    attributes = RulesetAttributes(*orders["attributes"])
    size = ctypes.c_size_t(orders["size"])
    ruleset = checked(_libc.syscall(CREATE_RULESET, ctypes.byref(attributes), size, 0), "a Landlock ruleset")
    for path, access in orders["rules"]:
        allow_path(ruleset, path, access)
    for port in orders["ports"]:
        rule = NetPort(CONNECT_TCP, port)
        checked(
            _libc.syscall(ADD_RULE, ruleset, RULE_NET_PORT, ctypes.byref(rule), 0), f"a rule for port {port}"
        )
    checked(_libc.syscall(RESTRICT_SELF, ruleset, 0), "Landlock")
    os.close(ruleset)


def main() -> None:
    """Confine this process, then be the program."""
    with os.fdopen(ORDERS, "rb") as file:
        orders = json.load(file)
    os.close(PROGRAM)
    try:
        os.chdir(orders["scratch"])
        confine(orders)
        # Python ignores these two, and what is ignored is inherited: no writer would notice that nobody reads.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - becoming the program is the point
    except OSError as error:
        sys.stderr.write(f"the script cannot be confined: {error}\n")
        os._exit(125)


if __name__ == "__main__":
    main()
