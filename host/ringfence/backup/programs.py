"""PostgreSQL's own programs, pg_dump and pg_restore: which of those on this machine fit, and how they are run.

A server is dumped by a pg_dump that is not older than it, and a dump is read by a pg_restore that is not older than the
pg_dump that wrote it (pg_dump(1), "Notes"). Those of the server's own version are taken first, since what newer ones
write may be unknown to an older server. Passwords go by the environment: other users can read arguments.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg import pq

from ringfence.backup.errors import BackupError
from ringfence.redaction import redacted
from ringfence.storage.embedded import bundled_programs

KNOWS_TRANSACTION_TIMEOUT = 17
"""From this version on, pg_restore sets transaction_timeout, which older servers do not know."""
PIECE_BYTES = 1024 * 1024
ERROR_BYTES = 4096
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Program:
    """One of PostgreSQL's programs, and its major version."""

    path: Path
    major: int


def chosen(
    name: str, fits: Callable[[int], str | None], *, server: int, given: Path | None = None
) -> Program:
    """The program to use: the one that was given, or that of the server's version, or the oldest newer one.

    `fits` says why a version does not fit, or None. Raises `BackupError`.
    """
    option = f"--{name.replace('_', '-')}"
    if given is not None:
        program = _looked_at(given)
        if program is None:
            raise BackupError(f"{given} is no {name} of PostgreSQL")
        if (why := fits(program.major)) is not None:
            raise BackupError(f"{given} is of PostgreSQL {program.major}: {why}")
        return program
    there = [program for path in _places(name) if (program := _looked_at(path)) is not None]
    fitting = sorted(
        (one for one in there if fits(one.major) is None), key=lambda one: (one.major != server, one.major)
    )
    if fitting:
        return fitting[0]
    if not there:
        raise BackupError(f"there is no {name} on this machine", hint=f"Name one with {option}.")
    newest = max(there, key=lambda one: one.major)
    raise BackupError(
        f"no {name} on this machine fits; the newest is of PostgreSQL {newest.major} ({newest.path}): "
        f"{fits(newest.major)}",
        hint=f"Install the programs of PostgreSQL {server}, or name one with {option}.",
    )


def _places(name: str) -> Iterator[Path]:
    bundled = bundled_programs()
    if bundled is not None:
        yield bundled / name
    if (found := shutil.which(name)) is not None:
        yield Path(found)
    yield from sorted(_DEBIAN.glob(f"*/bin/{name}"))


def _looked_at(path: Path) -> Program | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(said.stdout)
    return Program(path, int(match[1])) if match else None


def environment(url: str, base: Mapping[str, str]) -> dict[str, str]:
    """The variables by which libpq's programs find the database at `url`. Raises `BackupError`."""
    found = dict(base)
    found["PGAPPNAME"] = "ringfence backup"
    for option in pq.Conninfo.parse(url.encode()):
        if option.val is None:
            continue
        if option.envvar is None:
            if option.keyword == b"sslpassword":
                raise BackupError(
                    "a key that needs sslpassword cannot be used here: name one without in the URL"
                )
            continue
        found[option.envvar.decode()] = option.val.decode()
    return found


def output_of(
    program: Program, arguments: Sequence[str], environ: Mapping[str, str]
) -> Generator[bytes, None, None]:
    """What a program prints, in pieces. Raises `BackupError` if it fails; whoever stops reading ends it."""
    with _running(program, arguments, environ, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(PIECE_BYTES):
            yield piece


def fed(
    program: Program, arguments: Sequence[str], environ: Mapping[str, str], pieces: Iterable[bytes]
) -> None:
    """Give a program its standard input, and wait for its end. Raises `BackupError` if it fails."""
    with _running(program, arguments, environ, stdout=subprocess.DEVNULL, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has failed, and says why
            for piece in pieces:
                process.stdin.write(piece)
            process.stdin.close()


@contextlib.contextmanager
def _running(
    program: Program, arguments: Sequence[str], environ: Mapping[str, str], *, stdout: int, stdin: int
) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [program.path, *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
            env=dict(environ),
            # Ctrl-C in the terminal is ours to pass on.
            start_new_session=True,
        )
        try:
            yield process
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _closed(pipe)
        if status != 0:
            errors.seek(0)
            said = errors.read(ERROR_BYTES).decode(errors="replace")
            raise BackupError(
                f"{program.path.name} failed: {' | '.join(redacted(said).split(chr(10))).strip(' |')}"
            )


def _closed(pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def inherited() -> dict[str, str]:
    """This process's variables, for a program that libpq's own may be meant for, too (PGPASSFILE, PGSSLROOTCERT)."""
    return dict(os.environ)
