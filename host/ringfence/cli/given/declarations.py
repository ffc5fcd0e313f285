"""Files with documents, as a command line names them: what is sent to a host, and nothing from outside.

Threat: a directory that somebody else has written leads out of itself, by a link or a path, and a file of whoever
applies it is sent along; or it holds what never ends; or a part of it cannot be read, and what that declares looks as
if it were declared no more. Mechanism: each file must be a regular one that is within the directory once all links are
followed, number and size are bounded, and a directory that cannot be read or is a link is an error. Not covered: who
may write into the directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from ringfence.process.errors import CliError, UsageMistake

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
LARGEST_FILE = 1024 * 1024
LARGEST_SUM = 12 * 1024 * 1024
MOST_FILES = 1000


class Given:
    """What `-f` names: a directory, one file, or standard input."""

    def __init__(self, source: str, stdin: IO[bytes]) -> None:
        """Raises `UsageMistake` and `CliError`."""
        self._sum = 0
        self._root: Path | None = None
        self._named: Path | None = None
        self.files: dict[str, str] = {}
        if source == STDIN:
            self._add(STDIN, stdin.read(LARGEST_FILE + 1), "standard input")
            return
        try:
            path = Path(source)
            is_directory = path.is_dir()
            self._named = path if is_directory else path.parent
            self._root = self._named.resolve(strict=True)
            path.stat()
        except (OSError, ValueError) as error:
            raise UsageMistake(f"cannot read {source!r}: {getattr(error, 'strerror', error)}") from error
        names = list(_documents(path)) if is_directory else [path.name]
        if not names:
            raise CliError(f"there is no document in {source}: those end in {', '.join(SUFFIXES)}")
        if len(names) > MOST_FILES:
            raise CliError(f"there are more than {MOST_FILES} files with documents in {source}")
        for name in names:
            self._take(name)
        if not is_directory and not path.name.endswith(SUFFIXES):
            # A host knows documents by how their names end.
            self.files = {f"{name}.yaml": text for name, text in self.files.items()}

    def add(self, names: Sequence[str]) -> None:
        """Take files along to which documents refer. Raises `CliError`."""
        if self._root is None:
            raise CliError(
                "a document on standard input cannot refer to a file: apply the directory, or the file"
            )
        for name in names:
            self._take(name)

    def to_wire(self) -> list[Mapping[str, str]]:
        """The files as the API takes them."""
        return [{"path": path, "text": text} for path, text in self.files.items()]

    def _take(self, name: str) -> None:
        assert self._root is not None
        assert self._named is not None
        called = str(self._named / name)
        try:
            path = (self._root / name).resolve(strict=True)
            if not path.is_relative_to(self._root):
                raise CliError(f"{called} leads out of {self._root}: it is not read")
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise CliError(f"{called} is no regular file")
                self._add(name, file.read(LARGEST_FILE + 1), called)
        except OSError as error:
            raise CliError(f"cannot read {called}: {error.strerror}") from error

    def _add(self, name: str, data: bytes, called: str) -> None:
        if len(data) > LARGEST_FILE:
            raise CliError(f"{called} is larger than {LARGEST_FILE} bytes")
        self._sum += len(data)
        if self._sum > LARGEST_SUM:
            raise CliError(f"the files are larger than {LARGEST_SUM} bytes together: apply them in parts")
        try:
            self.files[name] = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise CliError(f"{called} is no text in UTF-8: byte {error.start} does not fit") from None
        if "\0" in self.files[name]:
            raise CliError(f"{called} is no text: it holds a zero byte")


def _unreadable(error: OSError) -> None:
    raise CliError(f"cannot read {error.filename}: {error.strerror}") from error


def _documents(directory: Path) -> Iterator[str]:
    """The files with documents beneath a directory, without what is hidden. Raises `CliError`."""
    for here, inner, names in os.walk(directory, onerror=_unreadable):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in inner:
            if (link := Path(here) / name).is_symlink():
                raise CliError(
                    f"{link} is a link to a directory, which is not followed: apply that by itself, or copy it"
                )
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield (Path(here) / name).relative_to(directory).as_posix()
