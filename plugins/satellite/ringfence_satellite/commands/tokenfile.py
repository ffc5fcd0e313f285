"""A file that holds one secret token, made before the token is, and readable by its owner alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ringfence.cli import CliError


class TokenFile:
    """A new file, reserved so that no token is made that then cannot be kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = False

    @classmethod
    @contextlib.contextmanager
    def reserved(cls, path: Path | None) -> Iterator[Self | None]:
        """The file at `path`, or None for no path; removed again if nothing was written to it.

        Raises:
            CliError: if there is a file already, or none can be made.
        """
        if path is None:
            yield None
            return
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise CliError(
                f"{path} exists already", hint="Name a new file, or remove that one first."
            ) from None
        except OSError as error:
            raise CliError(f"cannot write {path}: {error.strerror}") from error
        file = cls(path)
        try:
            yield file
        finally:
            if not file._written:
                path.unlink(missing_ok=True)

    def write(self, token: str) -> None:
        """Keep `token`. Raises `CliError` where it cannot be written, and so is lost."""
        try:
            self.path.write_text(token + "\n")
        except OSError as error:
            raise CliError(
                f"the token cannot be written to {self.path}, and is lost: {error.strerror}",
                hint="Make another token with `ringfence satellite rotate-token`.",
            ) from error
        self._written = True
