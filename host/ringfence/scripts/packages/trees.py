"""Trees: what scripts import, made once for each lock and platform from files that are on this machine.

Threat: a tree that is half made, of another lock, or is changed or removed under a run that imports from it: by a
crash, a full disk, two processes at once, a swap to a new lock, or a collection. Mechanism: a tree is written beside,
from files that are hashed as they are read, and synchronised; then it is renamed to its place, whole, and never written
again. Its name is the hash of what it is. Who uses one pins it (`pins`); only trees that nobody pins are removed, and
they are renamed away before. Every lock is the kernel's, so none outlives its process. Not covered: who can write to
the directory, which is the supervisor alone.

The directory has `trees/<key>`, with `python` and `node_modules` in each; `locks`, in which `<key>.pin` is locked by
users of a tree and `<key>.make` by who makes it; and `drafts`, in which is what is being made or removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from ringfence.scripts.packages import locking
from ringfence.scripts.packages.blobs import Blobs
from ringfence.scripts.packages.errors import DoesNotFitError
from ringfence.scripts.packages.lock import Lock, NoFit
from ringfence.scripts.packages.pins import Pin, pin
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.tarballs import unpack_tarball
from ringfence.scripts.packages.unpacking import Bounds, Unpacking
from ringfence.scripts.packages.wheels import unpack_wheel

PYTHON, NODE = "python", "node_modules"
"""The two parts of a tree."""


def tree_key(lock_hash: str, platform: Platform) -> str:
    """What the tree of a lock on a platform is called."""
    return hashlib.sha256(f"{lock_hash} {platform.key}".encode()).hexdigest()


class Trees:
    """The trees of one directory, which several processes may use at once. Its methods block: not for an event loop.

    Runs whose uid is another than ours have to reach the directory: nothing in it is secret.
    """

    def __init__(self, directory: Path, blobs: Blobs, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - immutable
        self._trees = directory / "trees"
        self._locks = directory / "locks"
        self._drafts = directory / "drafts"
        self._blobs = blobs
        self._bounds = bounds

    def make(self, lock: Lock, platform: Platform) -> Path:
        """The tree of a lock, made now unless it is there. Another process that makes it is waited for.

        Raises:
            DoesNotFitError: if the lock has nothing for this platform.
            PackageRefusedError: if a package cannot be unpacked safely; it names the package and what is wrong.
            BlobMissingError: if a file is not on this machine.
            BlobDamagedError: if a file is not what it is to be.
            OSError: for a full disk and the like.
        """
        key = tree_key(lock.hash, platform)
        path = self._trees / key
        self._have_directories()
        if path.is_dir():
            self._used(key)
            return path
        with locking.locked(self._making(key)):
            if not path.is_dir():
                self._remove_drafts(key)
                draft = self._drafts / f"{key}.{secrets.token_hex(8)}"
                try:
                    self._unpack(lock, platform, draft)
                    _synchronise(draft)
                    # Its age counts from now on.
                    self._used(key)
                    draft.rename(path)
                except BaseException:
                    shutil.rmtree(draft, ignore_errors=True)
                    raise
                _synchronise(self._trees)
            self._making(key).unlink(missing_ok=True)
        return path

    def pin(self, lock_hash: str, platform: Platform) -> Pin | None:
        """The tree of a lock for a user, who closes the pin; None if it is not made."""
        key = tree_key(lock_hash, platform)
        return pin(self._trees / key, self._pinned(key))

    def made(self) -> frozenset[str]:
        """The keys of the trees that there are."""
        return frozenset(os.listdir(self._trees)) if self._trees.is_dir() else frozenset()

    def collect(self, wanted: Collection[str], grace_s: float) -> int:
        """Remove the trees, by their keys, that nobody wants, pins or has used for so long, and what crashes left.

        How many trees that were.
        """
        if not self._trees.is_dir():
            return 0
        self._have_directories()
        made = self.made()
        # A crash may leave the lock without its tree, and the other one beside it.
        pinned, making = self._locked("pin"), self._locked("make")
        removed = [
            key for key in sorted((made | pinned) - frozenset(wanted)) if self._collected(key, grace_s)
        ]
        for key in making | {name.partition(".")[0] for name in os.listdir(self._drafts)}:
            self._collect_drafts(key)
        return len(made.intersection(removed))

    def _locked(self, kind: str) -> frozenset[str]:
        """The keys of which there is such a lock."""
        names = (name.rpartition(".") for name in os.listdir(self._locks))
        return frozenset(key for key, _, ending in names if ending == kind)

    def _collected(self, key: str, grace_s: float) -> bool:
        descriptor = locking.take(self._pinned(key), wait=False)
        if descriptor is None:
            return False
        gone = self._drafts / f"{key}.{secrets.token_hex(8)}"
        try:
            if os.fstat(descriptor).st_mtime > time.time() - grace_s:
                return False
            with contextlib.suppress(FileNotFoundError):
                (self._trees / key).rename(gone)
            self._pinned(key).unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def _collect_drafts(self, key: str) -> None:
        """Remove what is left of trees that were being made or removed, unless somebody makes that one now."""
        descriptor = locking.take(self._making(key), wait=False)
        if descriptor is None:
            return
        try:
            self._remove_drafts(key)
            self._making(key).unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _remove_drafts(self, key: str) -> None:
        for draft in self._drafts.glob(f"{key}.*"):
            shutil.rmtree(draft, ignore_errors=True)

    def _unpack(self, lock: Lock, platform: Platform, draft: Path) -> None:
        wheels, tarballs = lock.wheels_for(platform), lock.tarballs_for(platform)
        for misfit in (wheels, tarballs):
            if isinstance(misfit, NoFit):
                raise DoesNotFitError(str(misfit))
        assert not isinstance(wheels, NoFit)
        assert not isinstance(tarballs, NoFit)
        draft.mkdir()
        draft.chmod(0o755)
        unpacking = Unpacking(draft, self._bounds)
        unpacking.directory(PYTHON)
        unpacking.directory(NODE)
        for package, file in wheels:
            with self._blobs.open(file) as stream:
                unpack_wheel(stream, file.filename, unpacking.archive(package.name, file.size), PYTHON)
        for tarball in tarballs:
            with self._blobs.open(tarball.file) as stream:
                unpack_tarball(stream, unpacking.archive(tarball.name, tarball.file.size), tarball.path)

    def _have_directories(self) -> None:
        # Runs pass through the first two; their umask would decide otherwise.
        for directory, mode in (
            (self._trees.parent, 0o711),
            (self._trees, 0o711),
            (self._locks, 0o700),
            (self._drafts, 0o700),
        ):
            if not directory.is_dir():
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(mode)

    def _used(self, key: str) -> None:
        with open(self._pinned(key), "ab") as file:
            os.utime(file.fileno())

    def _pinned(self, key: str) -> Path:
        return self._locks / f"{key}.pin"

    def _making(self, key: str) -> Path:
        return self._locks / f"{key}.make"


def _synchronise(directory: Path) -> None:
    """Have all of a file system written that this directory is in (syncfs(2)): one wait, and not one for each file.

    Raises:
        OSError: if it could not be written.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(descriptor)
