"""What can go wrong with packages, in words for whoever has to do something about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from ringfence.bounded import cleaned

MAX_TEXT = 2000


class Why(enum.StrEnum):
    """Why packages cannot be had."""

    NOT_FOUND = "not-found"
    """The registry has no such package, or no such version."""
    NO_FILE = "no-file"
    """There is no file for a platform: only a source, or wheels for other machines."""
    CONFLICT = "conflict"
    """No choice of versions fits all that is asked for."""
    NOT_ALLOWED = "not-allowed"
    """It is not in the allowlist."""
    HASH_DIFFERS = "hash-differs"
    """A file is not what the lock says."""
    UNREACHABLE = "unreachable"
    """The registry does not answer."""
    REFUSED = "refused"
    """The registry does not accept the credentials, or wants some."""
    FULL = "full"
    """There is no room to store it."""
    TOO_LARGE = "too-large"
    """It is more than the limit of a set, or of a file."""
    FAILED = "failed"
    """Something else."""


class PackagesError(RuntimeError):
    """A set cannot be installed, or packages cannot be used: which package, why, and what to do.

    None of it holds a credential: who raises it sees to that.
    """

    def __init__(
        self, why: Why, message: str, *, package: str | None = None, hint: str | None = None
    ) -> None:
        self.why = why
        self.package = None if package is None else cleaned(package, MAX_TEXT)
        self.message = cleaned(message, MAX_TEXT)
        self.hint = None if hint is None else cleaned(hint, MAX_TEXT)
        super().__init__(self.message if package is None else f"{self.package}: {self.message}")

    @property
    def with_hint(self) -> str:
        """The error and what to do, as sentences."""
        return str(self) if self.hint is None else f"{self}. {self.hint}"

    def to_wire(self) -> dict[str, Any]:
        """The error as JSON."""
        return {"reason": self.why.value, "package": self.package, "message": self.message, "hint": self.hint}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> PackagesError:
        """The error that was stored, maybe by a newer release."""
        known = {why.value for why in Why}
        why = Why(wire["reason"]) if wire.get("reason") in known else Why.FAILED
        return cls(why, str(wire.get("message")), package=wire.get("package"), hint=wire.get("hint"))


class BlobError(RuntimeError):
    """A blob cannot be kept, or cannot be read."""


class WrongBlobError(BlobError):
    """What came, or what is stored, is not what its SHA-256 says."""


class NoBlobError(BlobError):
    """There is no such blob."""
