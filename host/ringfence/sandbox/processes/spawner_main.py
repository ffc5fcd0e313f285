"""The spawner: a small process that leaves root, then starts children on request. Run as a script.

Why a process of its own:

- A real drop. One that serves a single identity leaves root once, irrevocably, with no supplementary groups. One
  whose children each leave for a uid of their own (`leaving`) has a uid that no run has, and of root's capabilities
  only those to change uid and gid and to kill; each child gives them up with that, before its program is there. Without
  root, it has them in a user namespace alone, which it joins first (`subordinates`).
- A steady parent. The wrapper dies with its parent, and to the kernel "parent" means the *thread* that started it: a
  thread of the host's pool that ends would take its sandboxes along. This process has one thread.
- Speed. The host is large and threaded, and forking it is slow; this process is small.
- One place where the claims of a run on the machine are made the lowest (`lower_claims`), whatever the supervisor's
  are. This process keeps ordinary ones, in a session of its own, so that runs cannot starve it.

It is not trusted with anything: requests come from the host over a socket pair, and replies are a pidfd and a status.
When the host goes, the socket closes, this process ends, and with it every sandbox. Nothing that happens to one request
ends it: what the kernel refuses (descriptors, processes, memory) is told to the one that asked.

That everything ends with it is the kernel's doing: this process is the init of a PID namespace (pid_namespaces(7)), so
whatever descends from it is killed when it ends, however and at whatever moment that is. A wrapper's own "die with my
parent" (PR_SET_PDEATHSIG) comes too late for that: it is said by a wrapper that runs, and by the wrapper's init only
when all else is made; whose parent ends before hears of nothing. Where no PID namespace can be had (to a supervisor
that is not root, user namespaces may be closed while they are open to the wrapper), this process adopts orphans
instead, and kills those; if it is killed itself while a wrapper starts, that one may stay behind.

Request, one packet: JSON `{"argv", "env", "fds", "identity", "limits"}`, and by SCM_RIGHTS the reply socket, the
executable, the lock of the identity's lease, and the descriptors that the child gets under the numbers in "fds". The
lock is kept until the child has been reaped. With `"clean"`, the child ends and removes what its identity has left, and
says so by its status. Replies on the reply socket, one packet each: `P` with a pidfd when the
program runs, then `X <wait status>`; or `E <errno>`. There are no pids in them: ours are not the host's.
"""

from __future__ import annotations

# All that is needed is imported up here: after the drop, the modules' own files may be out of reach.
import array
import contextlib
import ctypes
import errno
import gc
import itertools
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Any, NoReturn

MAX_REQUEST = 256 * 1024
MAX_DESCRIPTORS = 64
SPARE = b"spare"
"""What a child that waits for its request calls itself, for whoever looks at the machine's processes."""

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x2_0000, 0x1000_0000, 0x2000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x8_0000
DEVICES = (b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom")
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 3, 4, 8, 15
PR_SET_CHILD_SUBREAPER = 36
LINUX_CAPABILITY_VERSION_3 = 0x2008_0522
CAP_KILL, CAP_SETGID, CAP_SETUID = 5, 6, 7

IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""The number of ioprio_set(2), which has no name in libc."""
IOPRIO_WHO_PROCESS, IOPRIO_CLASS_IDLE = 1, 3 << 13

SMALL_LIMITS = {
    resource.RLIMIT_RTPRIO: 0,
    resource.RLIMIT_NICE: 0,
    resource.RLIMIT_SIGPENDING: 1024,
    resource.RLIMIT_MSGQUEUE: 256 * 1024,
    resource.RLIMIT_MEMLOCK: 64 * 1024,
}
"""Limits of what no policy speaks of: real time, better priority, signals and timers, queues, locked memory."""

LOWEST = {"oom_score_adj": b"1000", "coredump_filter": b"0"}
"""What a process can lower of its own through `/proc`: it is the first to go when memory is short, and nothing of its
memory is in a core dump."""

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock", "/var/lock", "/var/crash")  # noqa: S108
"""The directories of a host that anybody can make files in."""

CLEANING_S = 20
IPC_RMID = 0

libc = ctypes.CDLL(None, use_errno=True)


def drop(uid: int, gid: int) -> None:
    """Leave the present identity for good. Raises OSError where the kernel does not let us."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError(errno.EPERM, f"cannot become {uid}:{gid}, is {os.getresuid()}:{os.getresgid()}")


class Spare:
    """A child that was forked before it is wanted, and waits for its request: the fork is most of what a start takes.

    Until then it has the spawner's identity, the claims of a run, and no descriptor of any other child.
    """

    def __init__(self) -> None:
        """Fork it. Raises OSError."""
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.pid, self.told = fork(lambda tell: wait_for_request(theirs, tell))
            except BaseException:
                self._orders.close()
                raise

    def send(self, request: bytes, descriptors: list[int]) -> bool:
        """Let it be the child of a request; False if it does not take it, and is to be let go of."""
        try:
            socket.send_fds(self._orders, [request], descriptors)
        except OSError:
            return False
        self._orders.close()
        return True

    def close(self) -> None:
        """Let go of one that was not used: it ends, if it has not."""
        self._orders.close()
        os.close(self.told)


def wait_for_request(orders: socket.socket, tell: int) -> NoReturn:
    """In the fork: wait for a request and be its program; or end, when the spawner lets go."""
    try:
        libc.prctl(PR_SET_NAME, SPARE, 0, 0, 0)
        close_all_but(orders.fileno(), tell)
        stand_apart()
        rehearse()
        request, received = receive(orders, MAX_REQUEST, MAX_DESCRIPTORS)
        orders.close()
        if request:
            become(json.loads(request), received, tell)
    finally:
        os._exit(127)


def rehearse() -> None:
    """In the fork: use now what `become` will use, to no effect: the first time after a fork takes longest."""
    json.loads('{"argv": [""], "env": {"": ""}, "fds": [0], "identity": [0, 0]}')
    with contextlib.suppress(PermissionError):
        os.setgroups(os.getgroups())
        os.setresgid(-1, -1, -1)
        os.setresuid(-1, -1, -1)
    os.getresuid()
    os.getresgid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    copy = fcntl(0, F_DUPFD_CLOEXEC, 3)
    os.dup2(0, copy, inheritable=False)
    os.close(copy)


def close_all_but(*kept: int) -> None:
    """Close every descriptor above the first three, but these."""
    edges = [2, *sorted(kept), 2**31 - 1]
    for before, after in itertools.pairwise(edges):
        os.closerange(before + 1, after)


def fork(child: Callable[[int], NoReturn]) -> tuple[int, int]:
    """Fork a child, which gets a pipe to tell on: its pid, and the end of that to hear it. Raises OSError."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except BaseException:
        os.close(told)
        os.close(tell)
        raise
    if pid == 0:
        child(tell)
    os.close(tell)
    return pid, told


def end_cleaning(request: dict[str, Any], tell: int) -> NoReturn:
    """In the fork: clean up after an identity, and end with what came of it."""
    status = 2
    try:
        os.close(tell)
        stand_apart()
        status = clean(*request["identity"])
    finally:
        os._exit(status)


def become(request: dict[str, Any], received: list[int], tell: int) -> NoReturn:
    """In the fork: be the program of the request, or tell why not and end.

    The first descriptor is the program: its path may be out of reach.
    """
    code = errno.EIO
    try:
        if os.getsid(0) != os.getpid():
            stand_apart()
        if len(received) != 1 + len(request["fds"]):
            raise OSError(errno.EMFILE, "descriptors did not arrive")
        executable, *descriptors = received
        for name, (soft, hard) in request.get("limits", {}).items():
            limit(getattr(resource, name), soft, hard)
        if request.get("identity") is not None:
            leave_for(*request["identity"])
        # Python ignores these two, and what is ignored is inherited.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        # Copies above all wanted numbers first, so that no dup2 overwrites a descriptor that is still to be placed.
        wanted: list[int] = request["fds"]
        floor = max([*wanted, 2]) + 1
        tell = fcntl(tell, F_DUPFD_CLOEXEC, floor)
        binary = fcntl(executable, F_DUPFD_CLOEXEC, floor)
        copies = [fcntl(descriptor, F_DUPFD_CLOEXEC, floor) for descriptor in descriptors]
        for copy, number in zip(copies, wanted, strict=True):
            os.dup2(copy, number)
        os.execve(f"/proc/self/fd/{binary}", request["argv"], request["env"])  # noqa: S606
    except OSError as error:
        code = error.errno or errno.EIO
    finally:
        # Whatever went wrong: never back into the loop of the parent.
        with contextlib.suppress(OSError):
            os.write(tell, str(code).encode())
        os._exit(127)


def stand_apart() -> None:
    """In the fork: be in a session of its own, with the lowest claims.

    Signals that a script sends to its own group (`kill 0`) are not for us; nor is its share of the processor ours
    (autogroups, sched(7)).
    """
    os.setsid()
    lower_claims()


def lower_claims() -> None:
    """Have the lowest claims on the machine that a process can have, whatever those of the supervisor are.

    What a kernel does not have, or does not let us change, is left as it is: nothing of this is claimed of a run.
    """
    scheduler = os.sched_getscheduler(0)
    if scheduler not in (os.SCHED_BATCH, os.SCHED_IDLE):
        # Out of real time, too, which is nothing that takes a privilege.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    if (ioprio_set := IOPRIO_SET.get(os.uname().machine)) is not None:
        libc.syscall(ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE)
    for kind, most in SMALL_LIMITS.items():
        limit(kind, most, most)
    dumpable = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
    # What has changed its uid is not "dumpable", and its files in /proc are root's (prctl(2)).
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    for name, text in LOWEST.items():
        with contextlib.suppress(OSError):
            descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, text)
            finally:
                os.close(descriptor)
    libc.prctl(PR_SET_DUMPABLE, int(dumpable == 1), 0, 0, 0)


def limit(kind: int, soft: int, hard: int) -> None:
    """Lower a limit to these values, or to what it is already if that is less."""
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))


def clean(uid: int, gid: int) -> int:
    """In a fork: be that identity, end what it runs, and remove what it has left; 1 if something of that cannot be.

    With the rights of that identity alone, so that nothing that it left can lead us to anything of another's.
    """
    leave_for(uid, gid)
    if 0 in os.getresuid():
        raise PermissionError(errno.EPERM, "root is nobody's to clean up after")
    signal.alarm(CLEANING_S)
    while has_others(uid):
        # The kernel lets no process fork away from this, and spares ourselves (kill(2)).
        os.kill(-1, signal.SIGKILL)
        time.sleep(0.005)
    left = 0
    for kind in ("shm", "sem", "msg"):
        left += remove_objects(kind, uid)
    for place in PLACES:
        left += remove_files(place, uid)
    return min(left, 1)


def has_others(uid: int) -> bool:
    """Whether a process has this uid that is not ours, nor has ended and is still to be reaped."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/status", "rb") as status:
                # What a process calls itself is in none of these: its line has another name, and ends are escaped.
                fields = dict(line.split(b":", 1) for line in status.read().split(b"\n") if b":" in line)
                has_ended = fields[b"State"].split()[0] == b"Z" and fields[b"Threads"].split() == [b"1"]
                if int(fields[b"Uid"].split()[0]) == uid and not has_ended:
                    return True
    return False


def remove_objects(kind: str, uid: int) -> int:
    """Remove the System V objects of a kind that this uid has; how many are left. Raises OSError."""
    try:
        with open(f"/proc/sysvipc/{kind}") as listed:
            names = listed.readline().split()
            rows = [dict(zip(names, line.split(), strict=False)) for line in listed]
    except FileNotFoundError:
        return 0  # A kernel without them.
    key = "msqid" if kind == "msg" else f"{kind}id"
    # A set: where others come and go meanwhile, the kernel may list one twice.
    ours = {int(row[key]) for row in rows if str(uid) in (row["uid"], row["cuid"])}
    return sum(not remove_object(kind, number) for number in ours)


def remove_object(kind: str, number: int) -> bool:
    """Remove a System V object; False if it is still there."""
    arguments = (number, 0, IPC_RMID) if kind == "sem" else (number, IPC_RMID, ctypes.c_void_p(None))
    failed = getattr(libc, f"{kind}ctl")(*arguments)
    return not failed or ctypes.get_errno() in (errno.EINVAL, errno.EIDRM)


def remove_files(place: str, uid: int) -> int:
    """Remove what this uid has in a directory that is everybody's, and in those in it; how much could not be."""
    left, directories = 0, [place]
    while directories:
        directory = directories.pop()
        try:
            with os.scandir(directory) as found:
                entries = list(found)
        except OSError:
            continue  # Whatever is in one that may not be read is not of this uid's making.
        for entry in entries:
            try:
                owner, is_directory = (
                    entry.stat(follow_symlinks=False).st_uid,
                    entry.is_dir(follow_symlinks=False),
                )
                if owner == uid:
                    remove_tree(directory, entry.name) if is_directory else os.unlink(entry.path)
                elif is_directory:
                    directories.append(entry.path)
            except FileNotFoundError:
                continue
            except OSError:
                left += 1
    return left


def remove_tree(parent: str, name: str) -> None:
    """Remove a directory of our own. What is deep in it is moved up first: paths have a longest. Raises OSError."""
    top = os.path.join(parent, name)
    os.chmod(top, 0o700)
    count = 0
    while True:
        with os.scandir(top) as found:
            entries = list(found)
        if not entries:
            break
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            with os.scandir(entry.path) as deeper:
                for inner in list(deeper):
                    if inner.is_dir(follow_symlinks=False):
                        # One that may not be written to cannot be moved out of where it is (rename(2)).
                        os.chmod(inner.path, 0o700)
                    count += 1
                    os.rename(inner.path, os.path.join(top, f"ringfence-up-{count}"))
            os.rmdir(entry.path)
    os.rmdir(top)


def leave_for(uid: int, gid: int) -> None:
    """Take on an identity for good, with no group and no capability but it. Raises OSError."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    keep_capabilities()
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or os.getgroups():
        raise PermissionError(errno.EPERM, f"cannot become {uid}:{gid}")


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


class Child:
    """A child from its fork to its end: it has begun to be its program, runs, or is being killed."""

    def __init__(
        self,
        pid: int,
        pidfd: int,
        told: int | None = None,
        answer: socket.socket | None = None,
        lock: int | None = None,
    ) -> None:
        """Of an orphan, nobody hears; `told` is open until it is its program; only a leased identity has a lock."""
        self.pid, self.pidfd, self.told = pid, pidfd, told
        self._answer, self._lock = answer, lock

    def tell(self, text: str, *descriptors: int) -> bool:
        """Send a reply; False if it cannot be sent."""
        return self._answer is None or send(self._answer, text, *descriptors)

    def kill(self) -> None:
        """SIGKILL it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Kill it, and say no more of it."""
        self.kill()
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def close(self) -> None:
        """Let go of it, when it has been reaped."""
        os.close(self.pidfd)
        if self._answer is not None:
            self._answer.close()
        if self._lock is not None:
            os.close(self._lock)


class Server:
    """Serves requests and reports the end of each child, until the host closes its side."""

    def __init__(self, requests: socket.socket, *, keeps_orphans: bool) -> None:
        """Serve `requests`. Orphans are a plain run's own processes, and kept; a sandbox has none that live on."""
        self._requests = requests
        self._keeps_orphans = keeps_orphans
        self._children: dict[int, Child] = {}
        # Not epoll: what that keeps is counted for the user, and may be used up.
        self._poll = select.poll()
        self._heard: dict[int, Callable[[], object]] = {}
        self._gone = False
        self._spare: Spare | None = None
        self._wants_spare = not keeps_orphans
        self._listen(requests.fileno(), self._accept)

    def serve(self) -> None:
        """Serve until the host is gone. What still runs then is not ended by this."""
        while not self._gone:
            wants_spare = self._wants_spare and self._spare is None
            happened = self._poll.poll(0 if wants_spare else None)
            if not happened:
                self._fork_spare()
            for descriptor, _ in happened:
                # One before it in this turn may have ended it.
                if descriptor in self._heard:
                    self._heard[descriptor]()

    def _fork_spare(self) -> None:
        """While there is nothing else to do. One that cannot be had is not tried for again before the next request."""
        self._wants_spare = False
        with contextlib.suppress(OSError):
            self._spare = Spare()

    def _take_spare(self, request: bytes, descriptors: list[int]) -> tuple[int, int] | None:
        """The pid of the spare and what it tells on, which has the request now; None if there is none."""
        spare, self._spare = self._spare, None
        # What is among a plain run's own processes must be one of them.
        self._wants_spare = not self._keeps_orphans
        if spare is None:
            return None
        if not spare.send(request, descriptors):
            spare.close()
            return None
        return spare.pid, spare.told

    def _listen(self, descriptor: int, callback: Callable[[], object]) -> None:
        self._heard[descriptor] = callback
        self._poll.register(descriptor, select.POLLIN)

    def _ignore(self, descriptor: int) -> None:
        del self._heard[descriptor]
        self._poll.unregister(descriptor)

    def _accept(self) -> None:
        try:
            data, received = receive(self._requests, MAX_REQUEST, MAX_DESCRIPTORS)
        except ConnectionResetError:
            # A host that was killed with a reply unread.
            data, received = b"", []
        except OSError:
            # Out of memory, for now: the request is still there.
            return
        if not data:
            self._gone = True
            return
        if not received:
            # Nobody to tell: its end of the reply socket has closed on the way, which says so.
            return
        answer = socket.socket(fileno=received.pop(0))
        answer.setblocking(False)
        try:
            self._serve(data, received, answer)
        except Exception as error:
            # Whatever it is (see the test): it is this request's, and the others go on.
            send(answer, f"E {(isinstance(error, OSError) and error.errno) or errno.EIO}")
            answer.close()
        finally:
            for descriptor in received:
                os.close(descriptor)

    def _serve(self, data: bytes, received: list[int], answer: socket.socket) -> None:
        request: dict[str, Any] = json.loads(data)
        leased = request.get("identity") is not None
        if len(received) < 1 + leased:
            # Those for which there was no room are lost on the way (recvmsg(2)).
            raise OSError(errno.EMFILE, "descriptors did not arrive")
        lock = fcntl(received[1], F_DUPFD_CLOEXEC, 3) if leased else None
        passed = [received[0], *received[1 + leased :]]
        try:
            if leased and request.get("clean"):
                pid, told = fork(lambda tell: end_cleaning(request, tell))
            else:
                pid, told = self._take_spare(data, passed) or fork(lambda tell: become(request, passed, tell))
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            # Nobody could be told how it ends: it does not even begin.
            os.close(told)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if lock is not None:
                os.close(lock)
            raise
        child = self._children[pid] = Child(pid, pidfd, told, answer, lock)
        self._listen(told, lambda: self._on_told(child))
        self._listen(pidfd, self._reap)

    def _on_told(self, child: Child) -> None:
        """The child is its program now, or could not be: not waited for, since a run may keep it from going on."""
        if child.told is None:
            return
        failure = os.read(child.told, 16).decode()
        self._ignore(child.told)
        os.close(child.told)
        child.told = None
        if failure:
            child.tell(f"E {failure}")
            child.abandon()
        elif not child.tell("P", child.pidfd):
            # ETOOMANYREFS, if as many descriptors are under way as our uid may have (unix(7)); or no memory.
            child.tell(f"E {errno.ETOOMANYREFS}")
            child.abandon()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._leave(*ended)
        if not self._keeps_orphans:
            self._end_orphans()

    def _leave(self, pid: int, status: int) -> None:
        child = self._children.pop(pid, None)
        if child is None:
            if self._spare is not None and self._spare.pid == pid:
                self._spare.close()
                self._spare = None
            return
        self._on_told(child)
        self._ignore(child.pidfd)
        child.tell(f"X {status}")
        child.close()

    def _end_orphans(self) -> None:
        """Kill what a wrapper left behind that was cut off while it set up; a namespace's init takes all along."""
        for pid in children():
            if pid not in self._children and (self._spare is None or pid != self._spare.pid):
                with contextlib.suppress(OSError):
                    orphan = Child(pid, os.pidfd_open(pid))
                    self._children[pid] = orphan
                    self._listen(orphan.pidfd, self._reap)
                    orphan.kill()


def send(answer: socket.socket, text: str, *descriptors: int) -> bool:
    """Send one reply; False if that is not possible, which is no reason to stop serving the others."""
    try:
        socket.send_fds(answer, [text.encode()], list(descriptors))
    except OSError:
        return False
    return True


def ignore_nothing() -> None:
    """Have no run ignore what whoever started the host ignores: `nohup` does SIGHUP, a shell's `&` SIGINT.

    It is inherited, and a shell cannot even trap what it has inherited so. What Python ignores itself is left until a
    child is its program: this process must not end at a reply that nobody reads.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


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


def join(namespace: int) -> None:
    """Join the user namespace behind a descriptor, which is closed, with every capability in it. Raises OSError."""
    checked(libc.setns(namespace, CLONE_NEWUSER), "joining a user namespace")
    os.close(namespace)


def enter_namespace(uid: int, gid: int, *, leaving: bool) -> bool:
    """Have the next child be the init of a PID namespace; False where that cannot be had.

    Root makes it as root, and leaves root later. Anybody else needs a user namespace around it, in which uid and gid
    are what they were; the identity is dropped before, so that nothing in it is root's. With it comes a mount
    namespace, for a `/proc` that knows processes by the pids that they have inside: wrappers look for their own there.

    Raises:
        OSError: if the identity cannot be dropped, or a namespace is left half made.
    """
    if not os.path.exists("/proc/thread-self/children"):
        return False  # The host finds a wrapper's init by this, where pids are not its own.
    # Whoever leaves is root, or has joined a namespace in which it may do this as well.
    if (os.geteuid() == 0 or leaving) and libc.unshare(CLONE_NEWNS | CLONE_NEWPID) == 0:
        return True
    if leaving:
        return False
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


def keep_capabilities(*kept: int) -> None:
    """Give up every capability but these, for good. Raises OSError."""
    mask = sum(1 << number for number in kept)
    # Effective, permitted and inheritable, for the numbers below 32 and then for those above.
    sets = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    checked(libc.capset(ctypes.byref(header), ctypes.byref(sets)), "giving up capabilities")


def become_leaver(uid: int, gid: int) -> None:
    """Be a uid of our own, and keep what lets children leave for theirs, and be killed. Raises OSError."""
    checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keeping capabilities")
    drop(uid, gid)
    keep_capabilities(CAP_KILL, CAP_SETGID, CAP_SETUID)
    # What is done to a child before it leaves is done through its /proc, which is root's unless this is said.
    checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "being dumpable")


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

    Further arguments: `plain`, if children are plain processes, in no namespace, whose orphans live on until the host
    is gone; `leaving`, if each request says for which identity its child leaves; and the number of a descriptor, if
    those identities are in the user namespace that is behind it.
    """
    uid, gid, *how = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    plain, leaving = "plain" in how, "leaving" in how
    requests = socket.socket(fileno=os.dup(0))
    os.dup(1)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.setsid()
    ignore_nothing()
    os.umask(0o022)
    os.chdir("/")
    leave_no_core()
    may_have_descriptors()
    try:
        for namespace in filter(str.isdecimal, how):
            join(int(namespace))
        parent = become_init(requests) if not plain and enter_namespace(uid, gid, leaving=leaving) else None
        if parent is not None and uid == 0:
            close_devices()
        adopt()
        if leaving:
            become_leaver(uid, gid)
        else:
            drop(uid, gid)
            if parent is not None and uid:
                # Whoever makes a user namespace has every capability in it (user_namespaces(7)); none is needed.
                keep_capabilities()
        if parent is not None:
            end_with(parent)
    except OSError as error:
        requests.send(f"E {error}".encode())
        return
    # A fork touches as little as can be.
    gc.collect()
    gc.freeze()
    gc.disable()
    requests.send(f"R {os.getuid()} {os.getgid()} {os.getgroups()}".encode())
    Server(requests, keeps_orphans=plain).serve()
    kill_adopted()


if __name__ == "__main__":
    main()
