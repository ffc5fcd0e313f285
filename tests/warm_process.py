"""The process that programs of tests are forked from: it imports what they need, and forks whenever it is asked.

Its argument is the number of a socket. A request is a `Start` in JSON, with the three streams that the process gets;
the answer is the number of the process. What forks is forked itself and ends at once, so that the process becomes a
child of the tests, who are the ones to wait for it. It ends when the socket is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import termios
import threading
from collections.abc import Callable
from dataclasses import dataclass

MOST_BYTES = 1 << 17
"""How large a request may be."""

_NOT_IMPORTED = frozenset({"__main__", "inside", "testing"})
"""Parts of the names of modules that are programs themselves, or belong to tests."""


@dataclass(frozen=True)
class Start:
    """What a process is to be."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    directory: str
    safe_path: bool
    new_session: bool
    ignored: list[int]
    """The numbers of the signals that it ignores."""
    preparing: str | None
    """Which of `PREPARING` is called first, as `preexec_fn` of `subprocess` is."""


def heed_interrupts() -> None:
    """Take Ctrl-C and a hangup as from a terminal, even if these tests run where they are ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def take_terminal() -> None:
    """Have standard input be the terminal that controls this process, whose session is a new one."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


PREPARING: dict[str, Callable[[], None]] = {one.__name__: one for one in (heed_interrupts, take_terminal)}


@functools.cache
def import_services() -> None:
    """Import all that can send messages, which the program that sends one does only when it knows where to."""
    with contextlib.suppress(ImportError):
        from apprise.manager_plugins import NotificationManager

        NotificationManager().load_modules()  # type: ignore[no-untyped-call]
    gc.freeze()


ISOLATED: dict[str, Callable[[], None]] = {
    "ringfence_notifications.delivery.sending_main": import_services,
}
"""Programs that are started with `-I` and speak in bytes and ASCII alone, and what is imported for them first."""


def import_all() -> None:
    """Import what programs of Ringfence import when they run."""
    plugins = importlib.metadata.entry_points(group="ringfence.plugins")
    for package in sorted({"ringfence", *(one.value.partition(".")[0] for one in plugins)}):
        path = importlib.import_module(package).__path__
        for found in pkgutil.walk_packages(path, f"{package}."):
            words = found.name.split(".")
            if _NOT_IMPORTED.isdisjoint(words) and not words[-1].endswith("_main"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(found.name)


def forked(channel: socket.socket) -> Start | None:
    """Fork whenever it is asked for. Returns in each process that was started so, and in this one at the end."""
    while True:
        request, streams, _, _ = socket.recv_fds(channel, MOST_BYTES, 3)
        if not request:
            return None
        ISOLATED.get(json.loads(request)["module"], lambda: None)()
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            parent = os.getpid()
            started = os.fork()
            if started == 0:
                while os.getppid() == parent:  # until it is a child of the tests
                    os.sched_yield()
                channel.detach()
                _take(streams)
                return Start(**json.loads(request))
            os.write(writer, str(started).encode())
            os._exit(0)
        for one in (writer, *streams):
            os.close(one)
        answer = os.read(reader, 64)
        os.close(reader)
        os.waitpid(between, 0)
        channel.send(answer)


def _take(streams: list[int]) -> None:
    """Have these as standard input, output and error, and nothing else open."""
    for number, one in enumerate(streams):
        os.dup2(one, number)
    os.closerange(3, 1024)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        # As Python opens them: standard error is written line by line, the others so only at a terminal.
        mine = open(  # noqa: SIM115 - lives as long as the process
            number,
            mode,
            encoding=getattr(sys, name).encoding,
            errors=getattr(sys, name).errors,
            buffering=1 if name == "stderr" or os.isatty(number) else -1,
            closefd=False,
        )
        setattr(sys, name, mine)
        setattr(sys, f"__{name}__", mine)


def become(start: Start) -> None:
    """Run the program in this process."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):  # those of the C library's own
            signal.signal(number, signal.SIG_IGN if number in start.ignored else signal.SIG_DFL)
    if start.new_session:
        os.setsid()
    if start.preparing is not None:
        PREPARING[start.preparing]()
    # As Python has signals when it starts.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(start.environment)
    os.chdir(start.directory)
    first = [each for each in start.environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    here = [] if start.safe_path else [start.directory]
    sys.path[:] = [*here, *first, *(each for each in sys.path if each not in before)]
    importlib.invalidate_caches()
    sys.argv = [start.module, *start.arguments]
    try:
        runpy.run_module(start.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            _end(ended.code or 0)
        raise
    _end(0)


def _end(status: int) -> None:
    """End as an interpreter does, but without taking apart all that was imported: that is most of the time."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):  # the interpreter tells of it in its own way
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Be forked from, and run what was asked for in each process that is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    gc.collect()
    gc.freeze()
    start = forked(socket.socket(fileno=int(sys.argv[1])))
    if start is not None:
        become(start)


if __name__ == "__main__":
    main()
