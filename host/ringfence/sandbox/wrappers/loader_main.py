"""Runs in a room that nsjail made, as the init of its PID namespace, before anything else does. Trusted, and small.

nsjail can load no system call filter that is ready-made, and makes no init beside its command. So this makes the rest
of the room, loads the filter, and becomes a shell that starts the command, reaps whatever loses its parent, and tells
how the command ended. That shell is under the filter too.

It is read from a descriptor, since `/proc/self` of an init is covered in the room, and has what it is to do in the text
behind it: see `nsjail`. It imports next to nothing, since each import is time that every run pays.
"""

import ctypes
import os

INFO, ERRORS = 8, 9
"""Where the shell tells how the command ended, and the script's error output; single digits, since a POSIX shell need
not know others. Its own words go to descriptor 2, which is not the script's."""

INIT = (
    "trap : HUP INT QUIT TERM; unset PWD OLDPWD SHLVL; "
    f'(exec 2>&{ERRORS} {INFO}>&- {ERRORS}>&-; exec "$@"); status=$?; '
    f'echo "{{\\"exit-code\\": $status}}" >&{INFO}; exit $status'
)
"""The shell's part. What it starts has neither descriptor, but the script's error output in its place.

It is of the script's process group, and survives what a script sends to all of that (`kill 0`): a shell that has not
said what becomes of such a signal may end by it, though it is an init.
"""

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
SIGPIPE, SIGXFSZ = 13, 25

libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def checked(result: int, what: str) -> None:
    """Raise OSError if a call failed."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def load(code: bytes) -> None:
    """Have every system call of this process, and of what comes of it, judged by this program."""
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    program = Program(len(code) // 8, code)
    checked(
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0), "the system call filter"
    )


def close_all_but(kept: tuple[int, ...]) -> None:
    """Close every descriptor but these and 0 to 2.

    nsjail has done so if the kernel knows close_range(2). Without, it looks into `/proc/self`, which is covered.
    """
    start = 3
    for number in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
        os.closerange(start, number)
        start = number + 1


def main(
    *,
    info: int,
    errors: int,
    kept: tuple[int, ...],
    directories: tuple[tuple[str, int], ...],
    home: str,
    code: bytes | None,
    command: tuple[str, ...],
) -> None:
    """Make the directories, go home, load the filter, tell that the room is there, and become the init.

    `kept` are the descriptors that are for the command, besides 0 to 2.
    """
    os.umask(0)
    for path, mode in directories:
        os.mkdir(path, mode)
    os.umask(0o022)
    os.chdir(home)
    os.dup2(info, INFO)
    os.dup2(errors, ERRORS)
    # Python ignores these two, and what is ignored is inherited.
    libc.signal(SIGPIPE, None)
    libc.signal(SIGXFSZ, None)
    if code is not None:
        load(code)
    os.write(INFO, b'{"init": 1}\n')
    close_all_but((*kept, INFO, ERRORS))
    os.execv("/bin/sh", ("/bin/sh", "-c", INIT, "ringfence-init", *command))  # noqa: S606 - becoming it is the point
