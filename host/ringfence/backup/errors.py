"""What can go wrong with a backup, told to whoever runs the command."""

from __future__ import annotations


class BackupError(RuntimeError):
    """A backup cannot be made, read or restored; the message says why, `hint` what to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
