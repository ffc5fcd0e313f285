"""A policy in the user's own editor."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ringfence.cli import CliError, parse_object


class Draft:
    """A file with a policy as JSON, for as long as it is edited; it stays where a change in it was not made."""

    def __init__(self, policy: Mapping[str, Any]) -> None:
        descriptor, name = tempfile.mkstemp(prefix="ringfence-policy-", suffix=".json")
        self.path = Path(name)
        self._before = json.dumps(policy, indent=2, ensure_ascii=False) + "\n"
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(self._before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self.is_edited:
            self.path.unlink(missing_ok=True)
        elif isinstance(error, CliError):
            kept = f"What you have written is kept in {self.path}."
            error.hint = f"{error.hint}\n{kept}" if error.hint else kept

    @property
    def is_edited(self) -> bool:
        """Whether it is another text than before."""
        return self._text() != self._before.encode()

    def edit(self) -> None:
        """Have it edited. Raises `CliError` if there is no editor, or it fails."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            ended = subprocess.run([*shlex.split(editor), str(self.path)], check=False).returncode
        except (OSError, ValueError) as error:
            raise CliError(
                f"cannot start the editor {editor!r}: {error}", hint="Set EDITOR to the one that you use."
            ) from error
        if ended != 0:
            raise CliError(f"the editor ended with status {ended}: nothing is changed")

    def read(self) -> dict[str, Any]:
        """What it says now. Raises `UsageMistake` for what is no JSON object."""
        return parse_object(self._text(), str(self.path))

    def _text(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise CliError(f"cannot read {self.path}: {error.strerror}") from error
