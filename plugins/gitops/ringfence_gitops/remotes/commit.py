"""A commit, as git prints it. Pure: of it, only what is shown to people, and its time, is taken."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from ringfence.bounded import cleaned, one_line

MOST_SUBJECT = 200
MOST_BYTES = 1024 * 1024
SHORT = 12
_PERSON = re.compile(rb"(.*?) ?<[^>]*> (-?\d{1,12})(?: [+-]\d{4})?")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its id, the first line of its message, its author, and when it was made."""

    id: str
    subject: str
    author: str
    at: dt.datetime
    is_signed: bool

    @property
    def reason(self) -> str:
        """How it stands as a reason."""
        return f"commit {self.id[:SHORT]}: {self.subject}" if self.subject else f"commit {self.id[:SHORT]}"


def commit_of(id: str, content: bytes) -> Commit:
    """The commit with this content. What cannot be read in it is left out."""
    head, _, message = content.partition(b"\n\n")
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key:
            fields.setdefault(key, value)
    author, _ = _person(fields.get(b"author", b""))
    _, seconds = _person(fields.get(b"committer", b""))
    try:
        at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, ValueError, OSError):
        at = dt.datetime.fromtimestamp(0, dt.UTC)
    is_signed = b"gpgsig" in fields or b"gpgsig-sha256" in fields
    subject = message.lstrip(b"\n").split(b"\n", 1)[0]
    return Commit(id, _shown(subject), _shown(author), at, is_signed)


def _person(value: bytes) -> tuple[bytes, int]:
    found = _PERSON.fullmatch(value)
    return (b"", 0) if found is None else (found[1], int(found[2]))


def _shown(value: bytes) -> str:
    text = cleaned(value.decode(errors="replace")).strip()
    text = "".join(letter if letter.isprintable() else " " for letter in text)[:MOST_SUBJECT]
    try:
        return one_line(text)
    except ValueError:
        return ""
