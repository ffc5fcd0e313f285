"""What is in an event or a job, as text for people, and no more of it than a page can bear."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

MOST_SHOWN = 200_000
"""How many characters of it are shown."""
_NUMBER = re.compile("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Payload:
    """The beginning of a document, and how many characters there are in all."""

    text: str
    characters: int

    @classmethod
    def of(cls, document: object) -> Payload:
        """As indented JSON."""
        text = json.dumps(document, indent=2, ensure_ascii=False)
        return cls(text[:MOST_SHOWN], len(text))

    @property
    def cut(self) -> bool:
        """Whether that is not all."""
        return len(self.text) < self.characters


def number(written: str) -> int | None:
    """A number as it stands in a path or a form; None for what is none that the database could hold."""
    return int(written) if _NUMBER.fullmatch(written) else None
