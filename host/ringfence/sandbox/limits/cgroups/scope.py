"""A cgroup v2 subtree from systemd, for a supervisor that was given none: a transient scope with `Delegate=`.

Threat: as `cgroup` says: without a cgroup, memory is held by looking only.

Mechanism: systemd-run(1) is started, asks systemd for a scope around its own process, and becomes the keeper: a program
that does nothing but wait for the end of a pipe. Nobody but us has the other end, so that it ends when we do, however
that happens. systemd removes a scope that has no process left, and forgets it (`--collect`, systemd.scope(5)). The
supervisor itself stays where it is. systemd-run speaks to systemd's own socket, so that it needs no bus; a library for
D-Bus would be one more dependency for one call.

What limits the supervisor's own cgroup (`MemoryMax=`, `IPAddressDeny=` …) does not hold in a scope beside it. So none
is asked for by a service, or by a container: only from a login session, or from where nothing is limited; and it is put
into the same slice. systemd is told pids, so it has to be of our own PID namespace.

Not covered: a supervisor that is not root and not within its user manager's cgroup, as in a login over SSH: the kernel
lets it move no process from there into a scope of that manager's.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ringfence.sandbox.identities.subordinates import PLACES
from ringfence.sandbox.limits.cgroups import delegation
from ringfence.sandbox.limits.cgroups.delegation import NotDelegated

BOOTED = Path("/run/systemd/system")
"""A directory that is there if systemd is the init (sd_booted(3))."""

TIMEOUT_S = 10.0
"""How long systemd may take to make a scope."""

PROPERTIES = ("Delegate=memory pids", "TasksMax=infinity")
"""What the scope is given: the controllers, and no limit of systemd's own on all runs together."""

# It says where it is, and waits for the end of its input. No dollar sign: systemd-run would replace that.
_KEEPER = "cat /proc/self/cgroup && exec cat >/dev/null 2>&1"

_ROOTS_PLACES = re.compile(r"/|/init\.scope|(/[^/]+\.slice)*/session-[^/]+\.scope")
_USERS_PLACES = re.compile(r"(/[^/]+\.slice)*/user@\d+\.service(/[^/]+\.slice)*/[^/]+\.scope")


def unit_name() -> str:
    """A name that no other unit has, in the letters that systemd allows (systemd.unit(5))."""
    return f"ringfence-{os.getpid()}-{secrets.token_hex(8)}.scope"


def why_not_from(own: str, uid: int, limits: Sequence[str] = ()) -> str | None:
    """Why no scope is asked for by a supervisor in this cgroup, which has limits; None if it may be."""
    places = _ROOTS_PLACES if uid == 0 else _USERS_PLACES
    if places.fullmatch(own):
        return f"{', '.join(limits)} of {own} would not hold in a scope beside it" if limits else None
    if uid != 0 and _ROOTS_PLACES.fullmatch(own):
        return (
            f"uid {uid} may not move processes out of {own}; start the supervisor within its user's manager, by "
            "systemd-run --user --scope"
        )
    return f"what limits {own} would not hold in a scope beside it; give it Delegate=yes"


def limits_of(group: Path) -> list[str]:
    """Which limits a cgroup has itself, but for that of processes, which systemd gives to every unit."""
    found = []
    for name in ("memory.max", "memory.high", "memory.swap.max", "cpu.max"):
        with contextlib.suppress(OSError):
            if (group / name).read_text().split()[0] != "max":
                found.append(name)
    return found


def command(program: str, name: str, uid: int) -> list[str]:
    """What asks systemd for the scope of that name, and becomes its keeper."""
    manager = ["--system", "--slice-inherit"] if uid == 0 else ["--user"]
    properties = [f"--property={value}" for value in PROPERTIES]
    return [
        *(program, *manager, "--scope", "--collect", "--quiet", "--no-ask-password", f"--unit={name}"),
        *(*properties, "--description=Runs of Ringfence", "--", "/bin/sh", "-c", _KEEPER),
    ]


def place_of(said: str, name: str) -> str:
    """The path of the cgroup that the keeper has said it is in.

    Raises:
        NotDelegated: if that is none of that name.
    """
    for line in said.splitlines():
        if line.startswith("0::") and line.endswith(f"/{name}"):
            return line.removeprefix("0::")
    raise NotDelegated(" ".join(said.split()) or "systemd-run said nothing")


class Scope:
    """A transient scope, as long as it is not closed and this process lives."""

    def __init__(self, program: str, environment: Mapping[str, str], name: str) -> None:
        """Ask for it. Raises NotDelegated with why it cannot be had, and OSError if nobody can be asked."""
        self.name = name
        # In a session of its own: what a terminal sends to the supervisor is not for the keeper. Its end is told by the
        # pipe and not by PR_SET_PDEATHSIG, which the end of the thread that started it would set off.
        self._keeper = subprocess.Popen(
            command(program, name, os.geteuid()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )
        try:
            self.path = delegation.directory_of(place_of(self._said(), name))
        except BaseException:
            self.close()
            raise

    def _said(self) -> str:
        """All that the keeper says before it waits, or what systemd-run says in its place."""
        assert self._keeper.stdout is not None
        said = b""
        deadline = time.monotonic() + TIMEOUT_S
        with self._keeper.stdout as output:
            poll = select.poll()
            poll.register(output, select.POLLIN)
            while poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                data = os.read(output.fileno(), 4096)
                if not data:
                    return said.decode(errors="replace")
                said += data
        raise NotDelegated(f"systemd made no scope within {TIMEOUT_S:.0f} s")

    @property
    def holds(self) -> bool:
        """Whether it is there, and stays."""
        return self._keeper.poll() is None and self.path.is_dir()

    def close(self) -> None:
        """Let it go: systemd ends what is in it."""
        self.let_go()
        # systemd-run may wait for systemd yet; the keeper would end by itself.
        self._keeper.kill()
        self._keeper.wait()

    def let_go(self) -> None:
        """Close the pipe that holds it; a child of ours would hold it beyond our end."""
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()


_held: Scope | None = None
_lock = threading.Lock()


def obtain() -> Path:
    """The cgroup of this process's scope, which is asked for if there is none (any more).

    Raises:
        NotDelegated: with why there is none.
    """
    global _held
    with _lock:
        if _held is None or not _held.holds:
            # The paths of runs that are planned already lead to one of the same name.
            name = unit_name() if _held is None else _held.name
            try:
                _held = Scope(*_asking(), name)
            except (NotDelegated, OSError) as error:
                raise NotDelegated(f"no transient scope of systemd: {error}") from error
        return _held.path


def is_own(subtree: Path) -> bool:
    """Whether this is the scope that this process was given, be it still there or not."""
    held = _held
    return held is not None and held.path == subtree


def release() -> None:
    """Let go of the scope, if there is one."""
    global _held
    with _lock:
        if _held is not None:
            _held.close()
        _held = None


def _asking() -> tuple[str, Mapping[str, str]]:
    """The program that asks, and its environment, where a scope may be asked for. Raises NotDelegated, OSError."""
    uid = os.geteuid()
    if not BOOTED.is_dir():
        raise NotDelegated("systemd is not running")
    program = shutil.which("systemd-run", path=os.pathsep.join(PLACES))
    if program is None:
        raise NotDelegated("systemd-run is not installed")
    if why := why_not_from(delegation.own_path(), uid, limits_of(delegation.own_cgroup())):
        raise NotDelegated(why)
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{uid}")
    _check_manager(Path("/run" if uid == 0 else runtime, "systemd/private"), uid)
    environment = {"PATH": os.pathsep.join(PLACES), "LC_ALL": "C"}
    return program, environment if uid == 0 else {**environment, "XDG_RUNTIME_DIR": runtime}


def _check_manager(address: Path, uid: int) -> None:
    """Raise NotDelegated if who listens there cannot be told pids: those of another PID namespace are not ours."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(address))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError as error:
        raise NotDelegated(f"{address} does not answer: {error.strerror or error}") from error
    pid, owner, _ = struct.unpack("3i", credentials)
    if owner != uid or not (pid == 1 if uid == 0 else _is_of_our_namespace(pid)):
        raise NotDelegated(f"the process behind {address} is not the systemd of our own processes")


def _is_of_our_namespace(pid: int) -> bool:
    """Whether a process has no other number in a PID namespace beneath ours (proc_pid_status(5), `NSpid`)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return line.split()[1:] == [str(pid)]
    return False


def _after_fork() -> None:
    """After a fork: the parent's scope is the parent's, and its end is not to wait for ours."""
    global _held, _lock
    _lock = threading.Lock()
    if _held is not None:
        _held.let_go()
    _held = None


os.register_at_fork(after_in_child=_after_fork)
