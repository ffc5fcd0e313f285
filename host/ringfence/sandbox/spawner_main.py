"""The spawner: a small process that drops to its uid for good, then starts children on request. Run as a script.

Why a process of its own:

- A real drop. It leaves root once, irrevocably, with no supplementary groups; each child is born with that identity.
- A steady parent. The wrapper dies with its parent, and to the kernel "parent" means the *thread* that started it: a
  thread of the host's pool that ends would take its sandboxes along. This process has one thread.
- Speed. The host is large and threaded, and forking it to change the uid is slow; here it is `posix_spawn` from a small
  one.

It is not trusted with anything: requests come from the host over a socket pair, and replies are a pidfd and a status.
When the host goes, the socket closes, this process ends, and with it every sandbox.

That last is the kernel's doing: this process is the init of a PID namespace (pid_namespaces(7)), so whatever descends
from it is killed when it ends, however and at whatever moment that is. A wrapper's own "die with my parent"
(PR_SET_PDEATHSIG) comes too late for that: it is said by a wrapper that runs, and by the wrapper's init only when all
else is made; whose parent ends before hears of nothing. Where no PID namespace can be had (to a supervisor that is not
root, user namespaces may be closed while they are open to the wrapper), this process adopts orphans instead, and kills
those; if it is killed itself while a wrapper starts, that one may stay behind.

Request, one packet: JSON `{"argv", "env", "fds"}`, and by SCM_RIGHTS the reply socket, the executable, and the
descriptors that the child gets under the numbers in "fds". Replies on the reply socket, one packet each: `P` with
a pidfd, then `X <wait status>`; or `E <errno>`. There are no pids in them: ours are not the host's.
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
import select
import selectors
import signal
import socket
import sys
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Any

MAX_REQUEST = 256 * 1024
MAX_DESCRIPTORS = 64

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x2_0000, 0x1000_0000, 0x2000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x8_0000
DEVICES = (b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom")
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 3, 4, 36
LINUX_CAPABILITY_VERSION_3 = 0x2008_0522

libc = ctypes.CDLL(None, use_errno=True)


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

    def __init__(self, requests: socket.socket, *, keeps_orphans: bool) -> None:
        """Serve `requests`. Orphans are a plain run's own processes, and kept; a sandbox has none that live on."""
        self._requests = requests
        self._keeps_orphans = keeps_orphans
        self._children: dict[int, tuple[int, socket.socket]] = {}
        self._dying: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until the host is gone. What still runs then is not ended by this."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._requests:
                    self._reap()
                elif not self._accept():
                    return

    def _accept(self) -> bool:
        try:
            data, received = receive(self._requests, MAX_REQUEST, MAX_DESCRIPTORS)
        except ConnectionResetError:
            # A host that was killed with a reply unread.
            return False
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
        self._selector.register(pidfd, selectors.EVENT_READ)
        try:
            send(answer, "P", pidfd)
        except OSError as error:
            # ETOOMANYREFS, if scripts have as many descriptors under way as their uid may (unix(7)). That one cannot
            # be started now is no reason to stop serving the others.
            os.kill(pid, signal.SIGKILL)
            self._dying[pid] = pidfd
            send(answer, f"E {error.errno}")
            answer.close()
        else:
            self._children[pid] = pidfd, answer

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._leave(*ended)
        if not self._keeps_orphans:
            self._end_orphans()

    def _leave(self, pid: int, status: int) -> None:
        if pid in self._children:
            pidfd, answer = self._children.pop(pid)
            send(answer, f"X {status}")
            answer.close()
        elif pid in self._dying:
            pidfd = self._dying.pop(pid)
        else:
            return
        self._selector.unregister(pidfd)
        os.close(pidfd)

    def _end_orphans(self) -> None:
        """A wrapper that ended may leave its init: which goes with it once it is set up, and else would wait for it."""
        for pid in children():
            if pid not in self._children and pid not in self._dying:
                os.kill(pid, signal.SIGKILL)
                self._dying[pid] = os.pidfd_open(pid)
                self._selector.register(self._dying[pid], selectors.EVENT_READ)


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


def enter_namespace(uid: int, gid: int) -> bool:
    """Have the next child be the init of a PID namespace; False where that cannot be had.

    Root makes it as root, and leaves root later. Anybody else needs a user namespace around it, in which uid and gid
    are what they were; the identity is dropped before, so that nothing in it is root's. With it comes a mount
    namespace, for a `/proc` that knows processes by the pids that they have inside: wrappers look for their own there.

    Raises:
        OSError: if the identity cannot be dropped, or a namespace is left half made.
    """
    if not os.path.exists("/proc/thread-self/children"):
        return False  # The host finds a wrapper's init by this, where pids are not its own.
    if os.geteuid() == 0 and libc.unshare(CLONE_NEWNS | CLONE_NEWPID) == 0:
        return True
    drop(uid, gid)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) != 0:
        return False
    # What has changed its uid is not "dumpable", and its files in /proc are root's (prctl(2)).
    dumpable = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    libc.prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)
    return True


def become_init(requests: socket.socket) -> int:
    """Go on as a child of this process, which stays only to wait for it. A pidfd of that, for `end_with`.

    Raises:
        OSError: if there can be no child, or no `/proc` for it.
    """
    parent = os.pidfd_open(os.getpid())
    child = os.fork()
    if child:
        requests.close()
        os.waitpid(child, 0)
        os._exit(0)
    # Slave, not private: what the host unmounts must not stay busy here.
    checked(libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None), "mounts of its own")
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    checked(libc.mount(b"proc", b"/proc", b"proc", flags, None), "a /proc of its own")
    return parent


def close_devices() -> None:
    """Have no run that is root change the mode or the times of the host's devices: it owns them.

    What is written to a device is not written to its file system, and goes on.

    Raises:
        OSError: if one is not to be closed.
    """
    for device in DEVICES:
        with contextlib.suppress(FileNotFoundError):
            checked(libc.mount(device, device, None, MS_BIND, None), f"{device!r} by itself")
            flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC
            checked(libc.mount(None, device, None, flags, None), f"{device!r} read-only")


def leave_capabilities() -> None:
    """Whoever makes a user namespace has every capability in it (user_namespaces(7)); none is needed any more."""
    none, header = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    checked(libc.capset(ctypes.byref(header), ctypes.byref(none)), "leaving the capabilities of a namespace")


def checked(result: int, what: str) -> None:
    """Raise OSError if a call failed."""
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def end_with(parent: int) -> None:
    """End when the parent does. To be said last: whoever changes its identity unsays it (prctl(2))."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if select.select([parent], [], [], 0)[0]:
        os._exit(1)
    os.close(parent)


def adopt() -> None:
    """Become the parent of every descendant that loses its own; an init is that already. Raises OSError."""
    checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "adopting orphans")


def kill_adopted() -> None:
    """Kill every child, and whatever becomes one by that, generation by generation, until there is none."""
    while living := children():
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def children() -> list[int]:
    """The pids of our children, also of those that ended and were not reaped; none where the kernel does not tell."""
    with contextlib.suppress(OSError), open("/proc/thread-self/children") as listed:
        return [int(pid) for pid in listed.read().split()]
    return []


def main() -> None:
    """Drop to the uid and gid of the arguments, say so, and serve the socket on descriptor 0.

    Whatever descriptor 1 is, no child gets it, and it is open until all of them have ended: it may be a lock.

    With a third argument, `plain`, children are plain processes: in no namespace, and their orphans live on until the
    host is gone.
    """
    uid, gid, plain = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["plain"]
    requests = socket.socket(fileno=os.dup(0))
    os.dup(1)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    leave_no_core()
    may_have_descriptors()
    try:
        parent = become_init(requests) if not plain and enter_namespace(uid, gid) else None
        if parent is not None and uid == 0:
            close_devices()
        adopt()
        drop(uid, gid)
        if parent is not None:
            if uid:
                leave_capabilities()
            end_with(parent)
    except OSError as error:
        requests.send(f"E {error}".encode())
        return
    requests.send(f"R {os.getuid()} {os.getgid()} {os.getgroups()}".encode())
    Server(requests, keeps_orphans=plain).serve()
    kill_adopted()


if __name__ == "__main__":
    main()
