"""Programs of Ringfence that tests start: forked from a process that has imported them, in a tenth of the time.

A test starts a program as ever, by `subprocess` or by `asyncio`, and gets a process of its own: a child of the tests
with the program's arguments, environment, directory, streams and signals. Only `python -m` of Ringfence or of a module
of the tests is started so, and only with what a forked process can be given. Whatever else is asked for, such as
another user or a variable that Python reads when it starts, is started from nothing; and so is all within `cold`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests import warm_process
from tests.warm_process import ISOLATED, MOST_BYTES, PREPARING, Start

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # prctl(2)
_OF_TERMINALS = frozenset({"FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH", "TYPER_USE_RICH"})
_READ_AT_START = _OF_TERMINALS | {
    *("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LD_PRELOAD", "TZ")
}
"""Variables that the libraries of a process read once, beside Python's own."""
_READ_BY_ISOLATED = frozenset({"LD_LIBRARY_PATH", "LD_PRELOAD", "TZ"})
_libc = ctypes.CDLL(None, use_errno=True)


def install() -> None:
    """From now on, have this process start programs of Ringfence warm."""
    WarmPopen.environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RINGFENCE_") and name not in _OF_TERMINALS
    }
    subprocess.Popen = WarmPopen  # type: ignore[misc]


@contextlib.contextmanager
def cold() -> Iterator[None]:
    """Start every program as a user's shell does, from nothing."""
    warm, subprocess.Popen = subprocess.Popen, _Popen  # type: ignore[misc]
    try:
        yield
    finally:
        subprocess.Popen = warm  # type: ignore[misc]


def read_at_start() -> dict[str, str]:
    """What a program needs in its environment to be started warm, whatever else is there."""
    return {name: value for name, value in WarmPopen.environment.items() if _is_read_at_start(name)}


def _is_read_at_start(name: str) -> bool:
    return name in _READ_AT_START or (name.startswith("PYTHON") and name != "PYTHONPATH")


class _Forking:
    """The process that is forked, from the side of the tests: started with the first program."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in (self._ours, theirs):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_BYTES)
        with theirs:
            self._process = _Popen(
                [sys.executable, "-P", warm_process.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd=Path(__file__).parents[1],
            )
        atexit.register(self._end)

    def start(self, what: bytes, streams: Sequence[int]) -> int:
        """Have a process started that is a child of this one; its number."""
        with self._lock:
            # What starts it ends before this is answered, and who takes over its child is the nearest that offers to.
            adopts = ctypes.c_int()
            _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0)
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._ours, [what], list(streams))
                answer = self._ours.recv(64)
            finally:
                _libc.prctl(_PR_SET_CHILD_SUBREAPER, adopts.value, 0, 0, 0)
        if not answer:
            raise AssertionError("the process that programs are forked from has ended")
        return int(answer)

    def _end(self) -> None:
        self._ours.close()
        self._process.wait()


_Popen = subprocess.Popen


@functools.cache
def _forking(process: int) -> _Forking:
    """The one that belongs to a process: one that was forked from the tests has none yet."""
    del process
    return _Forking(WarmPopen.environment)


class WarmPopen(subprocess.Popen[Any]):
    """As `subprocess.Popen`."""

    environment: dict[str, str]
    """That of the process that is forked."""

    def _execute_child(self, *given: Any) -> None:
        names = (
            *("args", "executable", "preexec_fn", "close_fds", "pass_fds", "cwd", "env", "startupinfo"),
            *("creationflags", "shell", "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"),
            *("restore_signals", "gid", "gids", "uid", "umask", "start_new_session", "process_group"),
        )
        asked = dict(zip(names, given, strict=True))
        start = _warm(asked)
        what = b"" if start is None else json.dumps(asdict(start)).encode()
        if start is None or len(what) > MOST_BYTES:
            super()._execute_child(*given)  # type: ignore[misc]
            return
        ends = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        streams = [own if end == -1 else end for own, end in enumerate(ends)]
        self.pid = _forking(os.getpid()).start(what, streams)
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]
            *(asked[n] for n in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        )


def _warm(asked: Mapping[str, Any]) -> Start | None:
    """What is asked of `subprocess`, if a forked process can be given all of it."""
    if isinstance(asked["args"], str | bytes | os.PathLike) or asked["executable"] or asked["shell"]:
        return None
    words = [os.fspath(word) for word in asked["args"]]
    options = words[1 : words.index("-m")] if "-m" in words else ["-"]
    if words[0] != sys.executable or options not in ([], ["-P"], ["-I"]):
        return None
    module, *arguments = words[len(options) + 2 :]
    if (isolated := options == ["-I"]) and module not in ISOLATED:
        return None
    if not isolated and module != "ringfence" and not module.startswith("tests."):
        return None
    directory = os.fspath(asked["cwd"] or ".")
    others = (asked["gid"], asked["gids"], asked["uid"])
    if asked["pass_fds"] or any(one is not None for one in others) or not os.path.isdir(directory):
        return None
    if asked["umask"] != -1 or asked["process_group"] not in (-1, None):
        return None
    preparing = next((name for name, one in PREPARING.items() if one is asked["preexec_fn"]), None)
    if asked["preexec_fn"] is not None and preparing is None:
        return None
    environment = dict(os.environ if asked["env"] is None else asked["env"])
    theirs = WarmPopen.environment
    if any(
        environment.get(name) != theirs.get(name)
        for name in {*environment, *theirs}
        if (name in _READ_BY_ISOLATED if isolated else _is_read_at_start(name))
    ):
        return None
    return Start(
        module,
        arguments,
        environment,
        os.path.abspath(directory),
        safe_path=bool(options),
        new_session=bool(asked["start_new_session"]),
        ignored=_ignored(),
        preparing=preparing,
    )


def _ignored() -> list[int]:
    """The signals that what is started here ignores; two that are ignored by Python itself are not handed on."""
    ignored = {one for one in signal.valid_signals() if signal.getsignal(one) is signal.SIG_IGN}
    return sorted(ignored - {signal.SIGPIPE, signal.SIGXFSZ})
