"""What came of following a source: in numbers, and as the events tell it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ringfence.bounded import cleaned
from ringfence.declaring import UNCHANGED, Applied, Outcome, WrongFilesError

from ringfence_gitops.hooks import GitopsFailed, GitopsSynced, ObjectChange
from ringfence_gitops.remotes.commit import Commit
from ringfence_gitops.sources.source import Source

MOST_CHANGES = 100
MOST_ERROR = 2000
ORPHANED = "orphaned"
_PLACE = re.compile(r"(\d+):(\d+): ", re.ASCII)
"""How warnings begin that say where in their document they are."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a source cannot be followed: in words, and where in which file."""

    error: str
    commit: str | None = None
    findings: Sequence[Mapping[str, Any]] = field(default=())

    def to_fact(self, source: Source) -> GitopsFailed:
        """What is told of it."""
        first = self.findings[0] if self.findings else {}
        return GitopsFailed(
            source=source.name,
            commit=self.commit,
            error=self.error,
            file=first.get("file") or None,
            line=first.get("line") if first.get("file") else None,
        )


def failed(error: str, commit: str | None = None) -> Failure:
    """A failure with these words."""
    return Failure(cleaned(error, MOST_ERROR), commit)


def wrong_files(error: WrongFilesError, commit: str) -> Failure:
    """A failure because of what the documents say."""
    findings = [one.to_wire() for one in error.told]
    lines = [str(one) if one.file else one.finding.message for one in error.told]
    more = f"; and {len(lines) - 1} more" if lines[1:] else ""
    return Failure(cleaned(f"{lines[0] if lines else error}{more}", MOST_ERROR), commit, findings)


def changes_of(applied: Applied) -> list[ObjectChange]:
    """What has changed."""
    found = [
        ObjectChange(kind=one.kind, name=one.name, change=one.change, drift=one.is_drift)
        for one in applied.outcomes
        if one.change != UNCHANGED
    ]
    return [
        *found,
        *(ObjectChange(kind=kind, name=name, change=ORPHANED) for kind, name in applied.orphaned),
    ]


def synced(source: Source, commit: Commit, applied: Applied) -> GitopsSynced:
    """What is told of a commit that holds now."""
    changes = changes_of(applied)
    return GitopsSynced(
        source=source.name,
        commit=commit.id,
        subject=commit.subject,
        author=commit.author,
        objects=objects_of(applied),
        changed=len(changes),
        drifted=sum(one.drift for one in changes),
        changes=tuple(changes[:MOST_CHANGES]),
    )


def warnings_of(applied: Applied) -> list[Mapping[str, Any]]:
    """What is to be known of objects that hold all the same, as findings of their files."""
    return [_warning(one, warning) for one in applied.outcomes for warning in one.warnings][:MOST_CHANGES]


def _warning(outcome: Outcome, warning: str) -> Mapping[str, Any]:
    file, line, column = (outcome.place or "::").rsplit(":", 2)
    if (at := _PLACE.match(warning)) is not None:
        line, column, warning = at[1], at[2], warning[at.end() :]
    message = cleaned(f"{outcome.kind} {outcome.name}: {warning}", MOST_ERROR)
    return {"file": file, "line": int(line or 1), "column": int(column or 1), "path": "", "message": message}


def objects_of(applied: Applied) -> int:
    """How many objects the source declares."""
    return sum(one.change != "deleted" for one in applied.outcomes)
