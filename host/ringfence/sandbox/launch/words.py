"""The words between those that make sandboxes and those that run them."""

from __future__ import annotations

from dataclasses import dataclass


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

    `environment`, as pairs, is there from the beginning; it holds nothing of a particular run.
    """

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    bootstrap: bytes | None = None
