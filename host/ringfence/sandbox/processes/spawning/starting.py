"""How a child becomes its program: by a copy of the spawner, or, where it waits to be let go, without one.

A copy (fork(2)) does to itself all that is to be done, and then becomes the program. That is the general way. It takes
as much time as making a sandbox does: the memory of an interpreter is copied, only to be thrown away.

A wrapper that can be told to wait is started without a copy (vfork(2), by way of posix_spawn(3)): as who it is to be,
since the spawner is that for a moment (`identity.assumed`), but with the spawner's claims, since no call starts a
program without them. It waits at a *latch*, a pipe that it reads to its end before it does anything. Meanwhile the
spawner lowers its claims from outside, and then closes the pipe.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterable
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Any, NoReturn

from .claims import limit, lower_claims
from .cleaning import clean
from .identity import assumed, dumpable, leave_for
from .keeping import keep

IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these two, and what is ignored is inherited."""


def _has_setsid() -> bool:
    """Whether posix_spawn(3) can start a session: that depends on the C library for which this Python was built."""
    try:
        os.posix_spawn("/", ["/"], {}, setsid=True)
    except NotImplementedError:
        return False
    except OSError:
        pass
    return True


CAN_LATCH = _has_setsid()


def start_latched(request: dict[str, Any], received: list[int]) -> int:
    """Start the program of a request that has a latch, and let it go when its claims are the lowest: its pid.

    Raises:
        OSError: if it cannot be started. Whatever is raised, no child is left.
    """
    executable, *descriptors = received
    numbers: list[int] = request["fds"]
    if len(numbers) != len(descriptors):
        raise OSError(errno.EMFILE, "descriptors did not arrive")
    with contextlib.ExitStack() as held:
        waits, latch = os.pipe2(os.O_CLOEXEC)
        held.callback(os.close, waits)
        held.callback(os.close, latch)
        wanted = {**dict(zip(numbers, descriptors, strict=True)), request["latch"]: waits}
        floor = _above(wanted)
        copies = {number: _moved(held, descriptor, floor) for number, descriptor in wanted.items()}
        binary = _moved(held, executable, floor)
        if request.get("identity") is not None:
            held.enter_context(assumed(*request["identity"]))
        # What the child is seen as in `/proc` comes from us, until it is its program; and we do not wait for that.
        with dumpable():
            pid = os.posix_spawn(
                f"/proc/self/fd/{binary}",
                request["argv"],
                request["env"],
                file_actions=[(os.POSIX_SPAWN_DUP2, copy, number) for number, copy in copies.items()],
                setsid=True,
                setsigmask=[],
                setsigdef=IGNORED,
            )
            try:
                lower_claims(pid)
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
    return pid


def _above(numbers: Iterable[int]) -> int:
    """Where copies are safe: no `dup2` to one of these numbers overwrites a descriptor that is still to be placed."""
    return max([*numbers, 2]) + 1


def _moved(held: contextlib.ExitStack, descriptor: int, floor: int) -> int:
    """The descriptor itself if it is there already, which nearly all are (`main.leave_low_numbers`), or a copy."""
    if descriptor >= floor:
        return descriptor
    copy = fcntl(descriptor, F_DUPFD_CLOEXEC, floor)
    held.callback(os.close, copy)
    return copy


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


def end_keeping(request: dict[str, Any], received: list[int], tell: int) -> NoReturn:
    """In the fork: put a run's state into its directory, or take it out, as that run; and end with what came of it."""
    status = 2
    try:
        os.close(tell)
        stand_apart()
        if request.get("identity") is not None:
            leave_for(*request["identity"])
        status = keep(request, *received)
    finally:
        os._exit(status)


CALLS: dict[str, Callable[[dict[str, Any], list[int]], None]] = {}
"""What a child may do instead of being a program, by name; put here before the spawner serves (see `through`)."""


def end_calling(request: dict[str, Any], received: list[int], tell: int) -> NoReturn:
    """In the fork: do what the request names, as who it names, with nothing open but what came with it; then end."""
    status = 2
    try:
        stand_apart()
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        for name, (soft, hard) in request.get("limits", {}).items():
            limit(getattr(resource, name), soft, hard)
        if request.get("identity") is not None:
            leave_for(*request["identity"])
        floor = _above(range(3 + len(received)))
        copies = [fcntl(descriptor, F_DUPFD_CLOEXEC, floor) for descriptor in received]
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for standard in range(3):
            os.dup2(null, standard)
        numbers = list(range(3, 3 + len(copies)))
        for number, copy in zip(numbers, copies, strict=True):
            os.dup2(copy, number)
        # The spawner's own are its other children's, too. With them, `tell` is closed: it is what it is to be.
        os.closerange(3 + len(copies), most)
        CALLS[request["call"]](request, numbers)
        status = 0
    finally:
        os._exit(status)


def become(request: dict[str, Any], received: list[int], tell: int) -> NoReturn:
    """In the fork: be the program of the request, or tell why not and end.

    The first descriptor is the program: its path may be out of reach.
    """
    code = errno.EIO
    try:
        stand_apart()
        if len(received) != 1 + len(request["fds"]):
            raise OSError(errno.EMFILE, "descriptors did not arrive")
        executable, *descriptors = received
        for name, (soft, hard) in request.get("limits", {}).items():
            limit(getattr(resource, name), soft, hard)
        if request.get("identity") is not None:
            leave_for(*request["identity"])
        for ignored in IGNORED:
            signal.signal(ignored, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        wanted: dict[int, int] = dict(zip(request["fds"], descriptors, strict=True))
        if "latch" in request:
            # What would wait there need not: its claims are the lowest.
            wanted[request["latch"]] = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        floor = _above(wanted)
        tell = fcntl(tell, F_DUPFD_CLOEXEC, floor)
        binary = fcntl(executable, F_DUPFD_CLOEXEC, floor)
        copies = {number: fcntl(descriptor, F_DUPFD_CLOEXEC, floor) for number, descriptor in wanted.items()}
        for number, copy in copies.items():
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
