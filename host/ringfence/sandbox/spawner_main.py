"""The spawner: a small process that drops to its uid for good, then starts children on request. Run as a script.

Why a process of its own:

- A real drop. It leaves root once, irrevocably, with no supplementary groups; each child is born with that identity.
- A steady parent. The wrapper dies with its parent, and to the kernel "parent" means the *thread* that started it: a
  thread of the host's pool that ends would take its sandboxes along. This process has one thread.
- Speed. The host is large and threaded, and forking it to change the uid is slow; here it is `posix_spawn` from a small
  one.

It is not trusted with anything: requests come from the host over a socket pair, and replies are a pid and a status.
When the host goes, the socket closes, this process ends, and with it (die-with-parent) every sandbox.

Request, one packet: JSON `{"argv", "env", "fds"}`, and by SCM_RIGHTS the reply socket, the executable, and the
descriptors that the child gets under the numbers in "fds". Replies on the reply socket, one packet each: `P <pid>` with
a pidfd, then `X <wait status>`; or `E <errno>`.
"""

from __future__ import annotations

# All that is needed is imported up here: after the drop, the modules' own files may be out of reach.
import array
import contextlib
import ctypes
import errno
import json
import os
import resource
import selectors
import signal
import socket
import sys
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Any

MAX_REQUEST = 256 * 1024
MAX_DESCRIPTORS = 64


def drop(uid: int, gid: int) -> None:
    """Leave the present identity for good. Raises OSError where the kernel does not let us."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError(errno.EPERM, f"cannot become {uid}:{gid}, is {os.getresuid()}:{os.getresgid()}")


def spawn(request: dict[str, Any], executable: int, descriptors: list[int]) -> int:
    """Start the child of a request and return its pid.

    The executable is run by descriptor: its path may be out of reach.
    """
    # Copies above all wanted numbers first, so that no dup2 overwrites a descriptor that is still to be
    # placed.
    wanted: list[int] = request["fds"]
    floor = max([*wanted, 2]) + 1
    copies = [fcntl(descriptor, F_DUPFD_CLOEXEC, floor) for descriptor in descriptors]
    binary = fcntl(executable, F_DUPFD_CLOEXEC, floor)
    try:
        return os.posix_spawn(
            f"/proc/self/fd/{binary}",
            request["argv"],
            request["env"],
            file_actions=[
                (os.POSIX_SPAWN_DUP2, copy, number) for copy, number in zip(copies, wanted, strict=True)
            ],
            setsigmask=[],
            # Signals that a script sends to its own group (`kill 0`) are not for us.
            setpgroup=0,
            # Python ignores these two, and what is ignored is inherited.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    finally:
        for descriptor in (*copies, binary):
            os.close(descriptor)


def receive(end: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """One packet and the descriptors with it, none of which a child inherits by accident.

    (`socket.recv_fds` does not pass its flags on in all of the Pythons that we run on, so the descriptors
    it returns are
    inheritable: every child would get the supervisor's sockets.)
    """
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(most * descriptors.itemsize)
    data, ancillary, _, _ = end.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, list(descriptors)


class Server:
    """Serves requests and reports the end of each child, until the host closes its side."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ, None)

    def serve(self) -> None:
        """Serve until the host is gone; what still runs then is killed, whether it would die with us or not."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._reap(key.fd, *key.data)
                elif not self._accept():
                    self._kill_all()
                    kill_adopted()
                    return

    def _kill_all(self) -> None:
        for key in self._selector.get_map().values():
            if key.data is not None:
                kill_with_children(key.data[0])

    def _accept(self) -> bool:
        data, received = receive(self._requests, MAX_REQUEST, MAX_DESCRIPTORS)
        if not data:
            return False
        answer = socket.socket(fileno=received[0])
        answer.setblocking(False)
        try:
            pid = spawn(json.loads(data), received[1], received[2:])
        except OSError as error:
            send(answer, f"E {error.errno}")
            answer.close()
        else:
            self._attend(pid, answer)
        finally:
            for descriptor in received[1:]:
                os.close(descriptor)
        return True

    def _attend(self, pid: int, answer: socket.socket) -> None:
        pidfd = os.pidfd_open(pid)
        try:
            send(answer, f"P {pid}", pidfd)
        except OSError as error:
            # ETOOMANYREFS, if scripts have as many descriptors under way as their uid may (unix(7)). That one cannot
            # be started now is no reason to stop serving the others.
            kill_with_children(pid)
            os.close(pidfd)
            send(answer, f"E {error.errno}")
            answer.close()
        else:
            self._selector.register(pidfd, selectors.EVENT_READ, (pid, answer))

    def _reap(self, pidfd: int, pid: int, answer: socket.socket) -> None:
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        send(answer, f"X {status}")
        answer.close()


def send(answer: socket.socket, text: str, *descriptors: int) -> None:
    """Send one reply. A host that no longer listens is no reason to stop serving the others."""
    try:
        socket.send_fds(answer, [text.encode()], list(descriptors))
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.EAGAIN):
            raise


def leave_no_core() -> None:
    """Have no child's memory dumped: neither into a file, nor into a program that the host keeps for that.

    A limit of 0 would not do: it does not hold for such a program (core(5)), which the kernel starts outside of every
    sandbox, as root. A limit of 1 is how the kernel is told to start none (fs/coredump.c); no file is so small.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = 1 if hard == resource.RLIM_INFINITY else min(hard, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def may_have_descriptors() -> None:
    """Have as many descriptors as can be had: each child takes two.

    And as many of ours may be under way to the host: those that scripts send to each other count for their uid as a
    whole, so whoever may send most must be us.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def adopt() -> None:
    """Become the parent of every descendant that loses its own (PR_SET_CHILD_SUBREAPER)."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


def kill_with_children(pid: int) -> None:
    """Kill a child that was not reaped yet, and before it its own children, while it is stopped and makes no more.

    A wrapper's init dies with the wrapper only once it is set up; until then it would wait for the wrapper for ever.
    """
    os.kill(pid, signal.SIGSTOP)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        for child in (*_children(pid), pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        os.waitpid(pid, 0)


def kill_adopted() -> None:
    """Kill every child, and whatever becomes one by that, generation by generation, until there is none.

    Only who adopts is given the children of those that it kills; for others this is soon over.
    """
    while children := _children(os.getpid()):
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as listed:
            return [int(pid) for pid in listed.read().split()]
    except OSError:
        return []


def main() -> None:
    """Drop to the uid and gid of the arguments, say so, and serve the socket on descriptor 0."""
    uid, gid = int(sys.argv[1]), int(sys.argv[2])
    requests = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    leave_no_core()
    may_have_descriptors()
    try:
        if "adopts" in sys.argv[3:]:
            adopt()
        drop(uid, gid)
    except OSError as error:
        requests.send(f"E {error}".encode())
        return
    requests.send(f"R {os.getuid()} {os.getgid()} {os.getgroups()}".encode())
    Server(requests).serve()


if __name__ == "__main__":
    main()
