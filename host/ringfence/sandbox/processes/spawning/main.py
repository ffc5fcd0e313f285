"""The course of the spawner: what it leaves and takes on before it serves, in which order."""

from __future__ import annotations

# All that is needed is imported before the drop: afterwards, the modules' own files may be out of reach.
import contextlib
import gc
import os
import resource
import signal
import socket
import sys

from .claims import have_small_limits
from .containing import become_init, close_devices, end_with, enter_namespace, join
from .identity import become_leaver, drop, keep_capabilities
from .libc import checked, libc
from .serving import Server, kill_adopted

PR_SET_CHILD_SUBREAPER = 36

LEFT_ALONE, PLENTY = 47, 1024
"""The numbers up to which are taken for nothing, if there are so many. Hardly any child has one that is higher."""


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


def leave_low_numbers(null: int) -> None:
    """Have what comes with a request get other numbers than children have: then none has to make way for another.

    Not where numbers are few: those are for children.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= PLENTY:
        while os.dup(null) < LEFT_ALONE:
            pass


def adopt() -> None:
    """Become the parent of every descendant that loses its own; an init is that already. Raises OSError."""
    checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "adopting orphans")


def tell(requests: socket.socket, words: str) -> bool:
    """Say something to the host; False if that has been killed meanwhile."""
    try:
        requests.send(words.encode())
    except BrokenPipeError:
        return False
    return True


def main() -> None:
    """Drop to the uid and gid of the arguments, say so, and serve the socket on descriptor 0.

    Whatever descriptor 1 is, no child gets it, and it is open until all of them have ended: it may be a lock.

    Further arguments: `plain`, if children are plain processes, in no namespace, whose orphans live on until the host
    is gone; `showing`, if wrappers are to find the host's `/proc` beside their own; `lean`, if they need nothing of
    `containing.OF_THE_KERNEL`; `leaving`, if each request says for
    which identity its child leaves; and the number of a descriptor, if those identities are in the user namespace that
    is behind it.
    """
    uid, gid, *how = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    plain, leaving, showing, lean = (word in how for word in ("plain", "leaving", "showing", "lean"))
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
    leave_low_numbers(null)
    have_small_limits()
    try:
        for namespace in filter(str.isdecimal, how):
            join(int(namespace))
        contained = not plain and enter_namespace(uid, gid, leaving=leaving)
        if showing and not contained:
            raise OSError("the host's /proc cannot be shown beside one of the run's own")
        parent = become_init(requests, showing=showing, lean=lean) if contained else None
        if parent is not None:
            # Only root could do more to them than change their times.
            with contextlib.nullcontext() if uid == 0 else contextlib.suppress(OSError):
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
        tell(requests, f"E {error}")
        return
    # A fork touches as little as can be.
    gc.collect()
    gc.freeze()
    gc.disable()
    if not tell(requests, f"R {os.getuid()} {os.getgid()} {os.getgroups()}"):
        return
    Server(requests, keeps_orphans=plain, parent=parent).serve()
    kill_adopted()
