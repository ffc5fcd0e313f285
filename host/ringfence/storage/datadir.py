"""The data directory of one instance: its lock, its admin token and the note that says where it listens."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from ringfence.storage.files import write_private

ADMIN_TOKEN = "admin-token"  # noqa: S105  (a file's name, not a token)
INSTANCE_NOTE = "instance.json"
LOCK = "lock"
ROOT_DATA_DIR = Path("/var/lib/ringfence")
"""Root's data lives here, not in root's home: the database runs as a user of its own and must reach it."""


class DataDirError(RuntimeError):
    """The data directory cannot be used; the message says why and what to do."""


def default_data_dir() -> Path:
    """The data directory when none is set: one per user, and for root one that the database's user can reach.

    Raises `DataDirError` for a user without a home: no HOME, and no entry in the password database, as containers with
    uids of their own have it.
    """
    if os.geteuid() == 0:
        return ROOT_DATA_DIR
    try:
        path = platformdirs.user_data_path("ringfence").expanduser()
    except RuntimeError:
        path = None
    if path is None or not path.is_absolute():
        raise DataDirError(
            f"uid {os.geteuid()} has no home directory to keep files in: name a directory with RINGFENCE_DATA_DIR"
        )
    return path


class DataDir:
    """One instance's directory. Traversable by others (the database has a user of its own), listable by none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def admin_token_path(self) -> Path:
        """Where the token of this machine's administrator is kept, readable by its owner alone."""
        return self.path / ADMIN_TOKEN

    @property
    def postgres_path(self) -> Path:
        """Where the embedded PostgreSQL keeps its cluster."""
        return self.path / "postgres"

    def create(self) -> None:
        """Make the directory if need be. Raises `DataDirError` when it cannot be made or written."""
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True)
                self.path.chmod(0o711)
        except OSError as error:
            raise DataDirError(
                f"cannot make the data directory {self.path}: {error.strerror}; "
                "choose another with --data-dir or RINGFENCE_DATA_DIR"
            ) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise DataDirError(
                f"the data directory {self.path} cannot be written by this user; "
                "choose another with --data-dir or RINGFENCE_DATA_DIR"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process alone. Raises `DataDirError` naming the holder when it is taken."""
        self.create()
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
                where = self.read_instance_note().get("url", "an address that it has not noted yet")
                raise DataDirError(
                    f"the data directory {self.path} is in use by process {holder or 'unknown'}, at {where}; "
                    "stop that one first, or choose another directory with --data-dir"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def write_private(self, name: str, text: str) -> Path:
        """Write one of its files; see `ringfence.storage.files.write_private`."""
        path = self.path / name
        write_private(path, text.encode())
        return path

    def write_instance_note(self, *, url: str) -> None:
        """Note where this instance listens, for the command line on the same machine."""
        self.write_private(INSTANCE_NOTE, json.dumps({"url": url, "pid": os.getpid()}) + "\n")

    def read_instance_note(self) -> dict[str, str]:
        """What the running instance noted: `url` and `pid` as strings; empty when nothing readable is there."""
        try:
            note = json.loads((self.path / INSTANCE_NOTE).read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(note, dict):
            return {}
        return {str(key): str(value) for key, value in note.items()}

    def remove_instance_note(self) -> None:
        """Forget the note, when the instance stops."""
        (self.path / INSTANCE_NOTE).unlink(missing_ok=True)
