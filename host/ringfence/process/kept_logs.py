"""The log of a program as it is kept: in files of bounded size in its directory, or by systemd's journal.

Under a unit the journal keeps what comes on stderr, and no file is written. Elsewhere lines of JSON go to
`logs/PROGRAM.log` as well, readable by its owner alone; the newest few files of a few MiB stay. Where they cannot be
written (a full disk, a directory of somebody else), the program goes on without. What is kept has passed the same
redaction as what goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import re
import sys
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from ringfence.process import logs
from ringfence.storage.files import write_private

DIRECTORY = "logs"
FILE_BYTES = 8 * 1024 * 1024
OLDER_FILES = 3
_GROUPS = Path("/proc/self/cgroup")
_UNIT = re.compile(r"/([A-Za-z0-9:_.@\\-]+\.service)(?:/|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the log of a program is: in files, or, if `unit` says so, in the journal."""

    program: str
    directory: Path
    unit: str | None
    of_user: bool = False
    """Whether the unit is one of a user's own service manager."""

    def of(self, kind: str) -> bool:
        """Whether it is of such a program: of a `host`, or of an `agent`, of which there may be several."""
        return self.program == kind or self.program.startswith(f"{kind}-")

    def files(self) -> list[Path]:
        """The files that there are, the oldest first."""
        newest = self.directory / f"{self.program}.log"
        numbered = [newest.with_name(f"{newest.name}.{number}") for number in range(OLDER_FILES, 0, -1)]
        return [path for path in (*numbered, newest) if path.exists()]


class _Files(logging.handlers.RotatingFileHandler):
    """Files that only their owner may read, and whose trouble is nobody's."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(
            os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8", errors="backslashreplace"
        )

    def handleError(self, record: logging.LogRecord) -> None:
        # The line is on stderr all the same.
        del record


def keep(data_dir: Path, program: str) -> None:
    """Keep what this process logs from now on, as the log of `program`. Never raises for what cannot be written."""
    directory = data_dir / DIRECTORY
    unit = _own_unit()
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        note = {"unit": None if unit is None else unit[0], "ofUser": unit is not None and unit[1]}
        write_private(directory / f"{program}.json", json.dumps(note).encode())
        if unit is not None:
            return
        handler = _Files(
            directory / f"{program}.log", maxBytes=FILE_BYTES, backupCount=OLDER_FILES, encoding="utf-8"
        )
    except OSError as error:
        logging.getLogger("ringfence.logs").warning(
            "the log cannot be kept in %s: %s", directory, error.strerror
        )
        return
    handler.setFormatter(logs.json_formatter())
    logging.getLogger().addHandler(handler)


def found(data_dir: Path) -> list[Kept]:
    """The logs that programs keep, or have kept, in this directory."""
    directory = data_dir / DIRECTORY
    kept = []
    for path in sorted(directory.glob("*.json")):
        note: object = None
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(path.read_text())
        unit = note.get("unit") if isinstance(note, dict) else None
        of_user = isinstance(note, dict) and note.get("ofUser") is True
        kept.append(Kept(path.stem, directory, unit if isinstance(unit, str) else None, of_user))
    return kept


def _own_unit() -> tuple[str, bool] | None:
    """The unit whose journal stderr goes to (systemd.exec(5), JOURNAL_STREAM), and whether it is a user's own."""
    with contextlib.suppress(OSError, ValueError):
        standing = os.fstat(sys.stderr.fileno())
        if os.environ.get("JOURNAL_STREAM") == f"{standing.st_dev}:{standing.st_ino}":
            groups = _GROUPS.read_text()
            units = _UNIT.findall(groups)
            named = [unit for unit in units if not unit.startswith("user@")]
            if named:
                return named[-1], "/user@" in groups
    return None
