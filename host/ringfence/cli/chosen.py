"""What a command line says about the host that it talks to, before or after the command's name.

Such options are the same for all commands, and no command's own: what they say is kept here for as long as a command
line runs, and read where the host is looked for (`ringfence.cli.address`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Chosen:
    """The values of the options; None where one was not given."""

    url: str | None = None
    profile: str | None = None
    token_file: str | None = None
    data_dir: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


_chosen = Chosen()


def now() -> Chosen:
    """What the command line that runs has said so far."""
    return _chosen


def forget() -> None:
    """Begin another command line."""
    global _chosen
    _chosen = Chosen()


def choose(**given: str | None) -> None:
    """Keep what was given; what is said after a command's name overrides what was said before it."""
    global _chosen
    _chosen = replace(_chosen, **{name: value for name, value in given.items() if value is not None})
