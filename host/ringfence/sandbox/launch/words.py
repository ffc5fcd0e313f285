"""The words between those that make sandboxes and those that run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ringfence.sandbox.numbers import CHANNEL


class LaunchFailed(RuntimeError):
    """The sandbox could not be made, so no line of the script has run.

    Unless it had `begun`, too late to be waited for: then some may have.
    """

    def __init__(self, reason: str, *, begun: bool = False) -> None:
        super().__init__(reason)
        self.begun = begun


@dataclass(frozen=True, slots=True)
class Command:
    """What runs inside: the program's arguments, and the bootstrap that it reads from descriptor 5, if any.

    `environment`, as pairs, is there from the beginning; it holds nothing of a particular run. `links` are symbolic
    links beside the script, by name. What `reads` gets a standard input at its start; others have `/dev/null`.
    """

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    bootstrap: bytes | None = None
    links: tuple[tuple[str, str], ...] = ()
    reads: bool = False

    def saying_ready(self) -> Command:
        """The same, but first it says on the channel that its room is there (`course.READY`), and no more."""
        say = f'echo ready >&{CHANNEL}; exec "$@"'
        return replace(self, arguments=("/bin/sh", "-c", say, "sh", *self.arguments))


@dataclass(frozen=True, slots=True)
class Handed:
    """What a sandbox is handed at its start.

    That is what the bootstrap reads from descriptor 3, the files in the script's directory, and the standard input of
    a command that reads one.
    """

    payload: bytes
    files: tuple[tuple[str, bytes], ...] = ()
    stdin: bytes | None = None


Hand = Callable[[str], Handed]
"""Makes what is handed over, at the moment of the start, for a sandbox whose script's directory is there inside."""
