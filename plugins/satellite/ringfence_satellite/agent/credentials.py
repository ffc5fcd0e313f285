"""A directory that holds one satellite's credentials: its id in `client-id`, and its token in `token`.

The token is written last, so that a directory which has one is whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ringfence.storage.files import write_private

CLIENT_ID = "client-id"
TOKEN = "token"  # noqa: S105  (a file's name)


class CredentialsError(ValueError):
    """The directory cannot be read or written, or is not whole; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Such a directory."""

    directory: Path

    @property
    def token_file(self) -> Path:
        """Where the token is."""
        return self.directory / TOKEN

    @property
    def is_whole(self) -> bool:
        """Whether both files are there, and neither is empty."""
        try:
            return all((self.directory / name).stat().st_size > 0 for name in (CLIENT_ID, TOKEN))
        except OSError:
            return False

    def client_id(self) -> str:
        """The satellite's id.

        Raises:
            CredentialsError: if it cannot be read, or is empty.
        """
        path = self.directory / CLIENT_ID
        try:
            id = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsError(f"cannot read the satellite's id in {path}: {error}") from error
        if not id:
            raise CredentialsError(f"the file of the satellite's id, {path}, is empty")
        return id

    def make_ready(self) -> None:
        """Make the directory, for its owner alone, and see that files can be written there.

        Raises:
            CredentialsError: if they cannot.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.directory / f".{TOKEN}.probe"
            write_private(probe, b"")
            probe.unlink()
        except OSError as error:
            raise CredentialsError(f"cannot write to {self.directory}: {error.strerror}") from error

    def write(self, client_id: str, token: str) -> None:
        """Keep both, readable by their owner alone.

        Raises:
            CredentialsError: if they cannot be written.
        """
        try:
            self.token_file.unlink(missing_ok=True)
            write_private(self.directory / CLIENT_ID, f"{client_id}\n".encode())
            write_private(self.token_file, f"{token}\n".encode())
        except OSError as error:
            raise CredentialsError(f"cannot write to {self.directory}: {error.strerror}") from error
