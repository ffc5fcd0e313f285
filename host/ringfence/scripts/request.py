"""What a caller asks for: one script, its kind, its input and its time."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

DEFAULT_TIMEOUT_MS = 60_000


class ScriptKind(enum.StrEnum):
    """Which runner runs a script."""

    SHELL = "shell"
    PYTHON = "python"
    ESM = "esm"


@dataclass(frozen=True, slots=True)
class ScriptRequest:
    """One script to run.

    Attributes:
        kind: which runner; a plain string is accepted and checked.
        script: the source. Bytes are passed as they are; text as UTF-8.
        context: any JSON value, given to Python and ESM scripts as their `context`.
        timeout_ms: wall-clock time from the script's start, in milliseconds, at least 1.
        env: variables beyond the curated base; those on the denylist are dropped, and named in the report.
        listen: told which stream the script writes to, and what, as it is read; never of a run that is given secrets,
            which are blotted out of the whole output alone. It must not wait, nor raise.
        secret_env: the same, but their values are blotted out of whatever the run gives back (see `masking`).

    Raises:
        ValueError: for an unknown kind or a timeout below 1.
    """

    kind: ScriptKind
    script: str | bytes
    context: object = None
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    env: Mapping[str, str] | None = None
    secret_env: Mapping[str, str] | None = field(default=None, repr=False)
    listen: Callable[[str, bytes], None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", ScriptKind(self.kind))
        object.__setattr__(self, "env", MappingProxyType(dict(self.env or {})))
        object.__setattr__(self, "secret_env", MappingProxyType(dict(self.secret_env or {})))
        if self.timeout_ms < 1:
            raise ValueError(f"timeout_ms must be at least 1, not {self.timeout_ms}")

    @property
    def source(self) -> bytes:
        """The script as bytes."""
        return self.script if isinstance(self.script, bytes) else self.script.encode()
