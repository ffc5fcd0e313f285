"""How a command fails: a message for people, what they can do about it, and an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FAILURE: Final = 1
USAGE: Final = 2
TIMED_OUT: Final = 124
REFUSED: Final = 125
INTERRUPTED: Final = 130


class CliError(Exception):
    """A command cannot do what was asked. `hint` says what to do; both are shown, never a traceback.

    `problem` is the problem document (RFC 9457) of the host that refused, if one did.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        exit_code: int = FAILURE,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        self.problem = problem

    def document(self) -> dict[str, Any]:
        """The failure as JSON."""
        document: dict[str, Any] = {"message": self.message, "hint": self.hint}
        return {"error": document if self.problem is None else {**document, "problem": dict(self.problem)}}


class UsageMistake(CliError):
    """The command line itself is wrong."""

    def __init__(
        self, message: str, *, hint: str | None = None, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint, exit_code=USAGE, problem=problem)
