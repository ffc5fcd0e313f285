"""Who has which uid of a range at this moment, over all supervisors of this machine.

Each uid has a byte in a file that only the supervisors' own user can open. Whoever leases a uid locks that byte (an
"open file description" lock, fcntl(2): it holds as long as any process has the description open, however the others
ended), and so does the spawner of the run, until the run's process has been reaped. What the byte says tells the next
one whether the last run of that uid was seen to its end, or may have left something.

A uid is given out again only when no process has it, which the kernel tells at once (getpriority(2) of a user), and
when what its run may have left among the host's own is gone: files in the directories that are everybody's, and
objects of System V. Somebody who is that uid, and no more, removes them (`spawning.cleaning`). What cannot be removed
keeps its uid from ever being used again. Which is tried next goes round in the range, from a start at random, so that a
number is not used again soon.

Not covered: message queues by name (mq_overview(7)), where the host has not mounted them; files in directories of the
host that are everybody's but not usually so. Supervisors that do not see the same directory (in containers of their
own, without user namespaces) give out the same numbers without knowing of each other; the start at random makes that
improbable. They should have ranges of their own.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import itertools
import logging
import os
import pwd
import stat
import struct
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ringfence.sandbox.afterwards import Afterwards
from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.workers import RETURNS

log = logging.getLogger(__name__)


BLOCK_BITS = 16
"""The files have so many uids each (as a power of two): one is never large."""


GONE_TIMEOUT_S = 5.0
"""How long the processes of an ended run may take to be gone before its uid is left aside."""


_LOOK_S = 0.02


class NoUidFree(RuntimeError):
    """Every uid of the range is in use, or has something that cannot be removed."""


class State(enum.IntEnum):
    """What a uid's byte says: what there may be of it, whoever has it locked."""

    CLEAN = 0
    """Nothing but processes: its runs could reach nothing of the host's in which to leave something."""
    CONTAINED = 1
    """The same, as earlier releases say it while such a run goes on."""
    REACHING = 2
    """What a run has left, or leaves now, that can make files or objects of System V among the host's own."""
    SPOILED = 3
    """Something of it cannot be removed. It is not given out again."""


_STATES = frozenset(State)


class Lease:
    """One uid, ours alone until `close`.

    `lock` is to be held by whoever starts processes with it, which is a spawner that has the identity `spawner`.
    """

    def __init__(self, uid: int, lock: int, register: Register) -> None:
        self.identity = Identity(uid, uid)
        self.spawner = register.uids.spawner
        self.lock = lock
        self._register = register
        _held.add(self)

    def close(self) -> None:
        """Give it back; what may be left of it is removed on a thread first."""
        if self.lock < 0:
            return
        lock, self.lock = self.lock, -1
        _held.discard(self)
        self._register.give_back(self.identity.uid, lock)

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


_held: weakref.WeakSet[Lease] = weakref.WeakSet()


_returning: set[int] = set()


def _forget() -> None:
    for lease in list(_held):
        lease.forget()
    for lock in (*_returning, *(leaving.lock for leaving in _LEAVING.forget())):
        os.close(lock)
    _returning.clear()
    _held.clear()


os.register_at_fork(after_in_child=_forget)


def directory() -> Path:
    """Where this user's supervisors keep their leases: the same for all of them, and nobody else's.

    Raises:
        Unavailable: if there is no such place.
    """
    uid = os.geteuid()
    tried = []
    # All but the last outlast a restart of the machine, as files do that a run has left.
    for place in (*_lasting(uid), f"/tmp/ringfence-uids-{uid}"):  # noqa: S108
        path = Path(place)
        try:
            path.mkdir(mode=0o700, parents=uid != 0, exist_ok=True)
            _check_ours(path)
        except OSError as error:
            tried.append(str(error))
        else:
            return path
    raise Unavailable(f"there is no place to say which uids are in use: {'; '.join(tried)}")


def _lasting(uid: int) -> tuple[str, ...]:
    """Places that this user's processes have in common, whatever the environment of each."""
    if uid == 0:
        return ("/var/lib/ringfence-uids", "/run/ringfence-uids")
    with contextlib.suppress(KeyError):
        return (f"{pwd.getpwuid(uid).pw_dir}/.local/state/ringfence-uids",)
    return ()


def _check_ours(path: Path) -> None:
    found = path.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise PermissionError(errno.EPERM, "not a directory of ours alone", str(path))


class Register:
    """The leases of one range."""

    def __init__(self, uids: UidRange, place: Path, cleaner: Callable[[Lease], bool]) -> None:
        """Use the files in `place`. `cleaner` removes what a run has left; whether nothing is left."""
        self.uids = uids
        self._cleaner = cleaner
        self._place = place
        self._turns = itertools.count(int.from_bytes(os.urandom(4)) % uids.places)

    def lease(self, *, reaching: bool) -> Lease:
        """Lease one that nobody has, for a run that can or cannot leave something among the host's own.

        Raises:
            NoUidFree: if there is none.
            OSError: if the register cannot be used.
        """
        leaving = len(_LEAVING)
        found = self._found(reaching=reaching)
        if leaving and isinstance(found, int):
            # Where there are few, the next run may be quicker than who frees them now and then.
            _LEAVING.go_through()
            found = self._found(reaching=reaching)
        if isinstance(found, Lease):
            return found
        raise NoUidFree(
            f"all {self.uids.places} uids of {self.uids} are in use"
            + (f", or have something left that could not be removed ({found} of them)" if found else "")
        )

    def _found(self, *, reaching: bool) -> Lease | int:
        """The lease of one that is free now; or how many are not in use, and cannot be used all the same."""
        left = 0
        for _ in range(self.uids.places):
            uid = self.uids.first + next(self._turns) % self.uids.places
            state = self._try(uid, reaching=reaching)
            if isinstance(state, Lease):
                return state
            left += state is not None
        return left

    def _try(self, uid: int, *, reaching: bool) -> Lease | State | None:
        """The lease of this uid; or None if somebody has it, or what it is said to be if it cannot be used."""
        lock = self._open(uid)
        if not _locked(lock, uid):
            os.close(lock)
            return None
        state = _read(lock, uid)
        if state is State.REACHING:
            # Of a supervisor that was killed. It is for another time.
            self._return(uid, lock)
            return state
        if state is State.SPOILED or is_alive(uid):
            os.close(lock)
            return state
        if reaching:
            _write(lock, uid, State.REACHING)
        return Lease(uid, lock, self)

    def _open(self, uid: int) -> int:
        path = f"{self._place}/{uid >> BLOCK_BITS}"
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def give_back(self, uid: int, lock: int) -> None:
        """Have it free again, when nothing is left of it. The lock is closed then."""
        match _read(lock, uid):
            case State.REACHING:
                self._return(uid, lock)
            case State.CLEAN:
                # As of most runs. If a process has it still, that is found by whoever comes to it next, and only then
                # it matters.
                os.close(lock)
            case _:
                _free(uid, lock)

    def _return(self, uid: int, lock: int) -> None:
        _returning.add(lock)
        RETURNS.submit(self._clean, uid, lock)

    def _clean(self, uid: int, lock: int) -> None:
        if self._is_clean(uid, lock):
            _LEAVING.add(_Leaving(uid, lock, time.monotonic() + GONE_TIMEOUT_S))
        else:
            os.close(lock)
        _returning.discard(lock)

    def _is_clean(self, uid: int, lock: int) -> bool:
        """Remove what is left of it, as far as it may have left something; whether nothing is."""
        try:
            lease = Lease(uid, lock, self)
            _held.discard(lease)
            if _read(lock, uid) is not State.REACHING or self._cleaner(lease):
                return True
            log.warning("uid %d is not used again: what its last run left cannot be removed", uid)
            _write(lock, uid, State.SPOILED)
        except Exception as error:
            # Its byte stays what it is, here too.
            log.warning("uid %d is not used for now: %s", uid, error)
        return False


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A uid of which nothing is left but, maybe, processes that end: until `latest`."""

    uid: int
    lock: int
    latest: float


def _has_left(leaving: _Leaving) -> bool:
    """Whether the uid is free again, or will not be before somebody looks again."""
    if not is_alive(leaving.uid):
        _free(leaving.uid, leaving.lock)
        return True
    if time.monotonic() < leaving.latest:
        return False
    # Its byte stays what it is, so that whoever comes to it looks again.
    log.warning("uid %d is not used for now: processes of its last run do not end", leaving.uid)
    os.close(leaving.lock)
    return True


_LEAVING = Afterwards(RETURNS, _LOOK_S, _has_left)


def returning() -> int:
    """How many uids of this process wait for the last process of their run to be gone: usually for a moment only."""
    return len(_returning) + len(_LEAVING)


def is_alive(uid: int) -> bool:
    """Whether any process has it as its real uid, zombies among them."""
    try:
        os.getpriority(os.PRIO_USER, uid)
    except ProcessLookupError:
        return False
    return True


def _free(uid: int, lock: int) -> None:
    """Say that nothing of it is left, and let it go."""
    try:
        # Of most runs it never said anything else, and to write it takes longer than all that a lease is otherwise.
        if _read(lock, uid) is not State.CLEAN:
            _write(lock, uid, State.CLEAN)
    except OSError as error:
        log.warning("uid %d is not used for now: %s", uid, error)
    finally:
        os.close(lock)


def _locked(lock: int, uid: int) -> bool:
    # struct flock of fcntl(2), with 64-bit offsets, as all machines that we know have it.
    order = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _offset(uid), 1, 0)
    try:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, order)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def _read(lock: int, uid: int) -> State:
    found = os.pread(lock, 1, _offset(uid))
    if not found:
        return State.CLEAN
    return State(found[0]) if found[0] in _STATES else State.SPOILED


def _write(lock: int, uid: int, state: State) -> None:
    os.pwrite(lock, bytes([state]), _offset(uid))


def _offset(uid: int) -> int:
    return uid & ((1 << BLOCK_BITS) - 1)
