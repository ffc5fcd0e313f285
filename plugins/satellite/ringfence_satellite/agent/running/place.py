"""What the host tells this satellite of itself, for the scripts that run here."""

from __future__ import annotations

from collections.abc import Mapping


class Place:
    """The facts of this satellite, by name. They outlive a lost connection, and not the process."""

    def __init__(self) -> None:
        self.facts: Mapping[str, str] = {}
