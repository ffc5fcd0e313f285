"""The uids that a supervisor without root may give out: its user's subordinate ones, in one namespace for all runs.

Threat: as `uids` says. A supervisor that is not root can give no run another uid than its own, except where an
administrator has set some aside for its user in `/etc/subuid` and `/etc/subgid` (subuid(5)).

Mechanism: a user namespace is made once, and newuidmap(1) and newgidmap(1), which are setuid root, map into it our own
ids and the subordinate ones. A uid means the same inside and outside; a gid has inside the number of its uid. Whatever
starts runs, or looks at them, joins that namespace, and has capabilities only over what is in it (user_namespaces(7)).
The namespace is complete before anything joins it: where one of the steps fails, there is none.

Not covered: what the kernel counts for a namespace as a whole is also counted for our own uid: processes, and signals
that wait, of all runs together.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FILES = ("/etc/subuid", "/etc/subgid")
PROGRAMS = ("newuidmap", "newgidmap")
PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where the programs are looked for: never in a place that our own environment names."""

FEWEST = 16
"""A range with fewer ids is not used."""

MOST = 65_536
"""As many of a range are used at most."""

TIMEOUT_S = 10.0


class NoSubordinatesError(RuntimeError):
    """This user has no subordinate ids that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Subordinates:
    """So many uids from `uid` on, each with a gid, of those from `gid` on. In the namespace, both are `uid`'s."""

    uid: int
    gid: int
    count: int

    @property
    def last(self) -> int:
        """The last uid."""
        return self.uid + self.count - 1


def listed(text: str, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The first id and the length of each range that a file gives to a user, who has these names there."""
    for line in text.splitlines():
        name, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        if name in names and first.isdecimal() and count.isdecimal():
            yield int(first), int(count)


def chosen(
    uids: Sequence[tuple[int, int]], gids: Sequence[tuple[int, int]], own: tuple[int, int]
) -> Subordinates | None:
    """The largest range that leaves out what we are ourselves; one of the same uids and gids, if there is one."""
    pairs = [
        Subordinates(uid, gid, min(of_uids, of_gids, MOST))
        for uid, of_uids in uids
        for gid, of_gids in gids
        if min(of_uids, of_gids) >= FEWEST and uid > 0 and gid > 0
    ]
    usable = [
        pair
        for pair in pairs
        if not any(pair.uid <= number <= pair.last for number in (*own, 65534, 65535))
        and not pair.gid <= own[1] < pair.gid + pair.count
    ]
    return max(usable, key=lambda pair: (pair.uid == pair.gid, pair.count), default=None)


def find() -> Subordinates:
    """Those of our user.

    Raises:
        NoSubordinatesError: if there are none.
    """
    uid, gid = os.geteuid(), os.getegid()
    names = [str(uid)]
    with contextlib.suppress(KeyError):
        names.append(pwd.getpwuid(uid).pw_name)
    ranges = []
    for path in FILES:
        try:
            ranges.append(tuple(listed(Path(path).read_text(errors="replace"), names)))
        except OSError as error:
            raise NoSubordinatesError(f"{path} cannot be read: {error.strerror}") from error
        if not ranges[-1]:
            raise NoSubordinatesError(f"{path} has no range for {' or '.join(reversed(names))}")
    found = chosen(ranges[0], ranges[1], (uid, gid))
    if found is None:
        raise NoSubordinatesError(
            f"{' and '.join(FILES)} have no range of {FEWEST} ids or more for {names[-1]} "
            f"without {uid}, {gid} and 65534"
        )
    return found


_made: tuple[Subordinates, int] | None = None
_lock = threading.Lock()


def namespace() -> tuple[Subordinates, int]:
    """The subordinate ids, and a descriptor of the namespace that maps them, which is kept for this process's life.

    Raises:
        NoSubordinatesError: if there is none.
    """
    global _made
    with _lock:
        if _made is None:
            found = find()
            _made = found, _namespace_of(found)
        return _made


def _namespace_of(ids: Subordinates) -> int:
    programs = [_found(name) for name in PROGRAMS]
    uid, gid = str(os.geteuid()), str(os.getegid())
    maps = (
        [uid, uid, "1", str(ids.uid), str(ids.uid), str(ids.count)],
        [gid, gid, "1", str(ids.uid), str(ids.gid), str(ids.count)],
    )
    # It echoes, which it cannot do before it is in its namespace.
    with subprocess.Popen(
        [_found("unshare"), "--user", "--", _found("cat")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        cwd="/",
    ) as holder:
        late = threading.Timer(TIMEOUT_S, holder.kill)
        late.start()
        try:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stderr is not None
            with contextlib.suppress(BrokenPipeError):
                holder.stdin.write(b"\n")
                holder.stdin.flush()
            if holder.stdout.read(1) != b"\n":
                words = " ".join(holder.stderr.read().decode(errors="replace").split())
                raise NoSubordinatesError(f"no user namespace can be made: {words or 'it ended'}")
            for program, numbers, kind in zip(programs, maps, ("uid", "gid"), strict=True):
                _map(program, holder.pid, numbers)
                if Path(f"/proc/{holder.pid}/{kind}_map").read_text().split() != numbers:
                    raise NoSubordinatesError(f"{Path(program).name} did not map the ids that it was given")
            return os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NoSubordinatesError(f"the user namespace cannot be kept: {error}") from error
        finally:
            late.cancel()
            holder.kill()


def _map(program: str, pid: int, numbers: Sequence[str]) -> None:
    name = Path(program).name
    try:
        done = subprocess.run(
            [program, str(pid), *numbers],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            env={},
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoSubordinatesError(f"{name}: {error}") from error
    if done.returncode != 0:
        raise NoSubordinatesError(" ".join(done.stderr.split()) or f"{name} ended with {done.returncode}")


def _found(name: str) -> str:
    path = shutil.which(name, path=os.pathsep.join(PLACES))
    if path is None:
        raise NoSubordinatesError(f"{name} is not installed")
    return path


def entering(uid: int, gid: int) -> tuple[list[str], int]:
    """The words before a command that have it run in the namespace as this uid alone, and the descriptor it needs.

    Raises:
        NoSubordinatesError: as `namespace`.
    """
    _, descriptor = namespace()
    words = [
        _found("nsenter"),
        f"--user=/proc/self/fd/{descriptor}",
        f"--setuid={uid}",
        f"--setgid={gid}",
        "--",
    ]
    return words, descriptor


def _forget() -> None:
    """After a fork: the child makes one of its own, if it needs one."""
    global _made, _lock
    if _made is not None:
        os.close(_made[1])
    _made = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
