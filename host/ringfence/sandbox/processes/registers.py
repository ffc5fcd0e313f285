"""This process's registers of uids, with who removes what a run has left: somebody of that uid."""

from __future__ import annotations

import os
import threading

from ringfence.sandbox.faults import Unavailable, is_passing
from ringfence.sandbox.identities.leases import Lease, NoUidFree, Register, directory
from ringfence.sandbox.identities.uids import UidRange, of_root, of_user
from ringfence.sandbox.processes.spawner import spawner_for

_registers: dict[UidRange, Register] = {}


_lock = threading.Lock()


def register_of(uids: UidRange) -> Register:
    """This process's register of a range. Raises `Unavailable` if there can be none."""
    with _lock:
        if uids not in _registers:
            _registers[uids] = Register(uids, directory(), _clean)
        return _registers[uids]


def _clean(lease: Lease) -> bool:
    return spawner_for(lease.spawner, plain=True, leaving=True).clean(lease)


def usable() -> UidRange:
    """The range of this supervisor's runs. Raises `Unavailable` if it cannot give out any uids."""
    uids = of_root() if os.geteuid() == 0 else of_user()
    register = register_of(uids)
    if os.geteuid() != 0:
        # Not every home directory is on a file system that can lock.
        try:
            register.lease(reaching=False).close()
        except OSError as error:
            raise Unavailable(
                f"the list of uids in use cannot be kept: {error}", passing=is_passing(error)
            ) from error
        except NoUidFree:
            pass
    return uids


def _forget() -> None:
    global _lock
    _registers.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
