"""The hooks that are emitted about git repositories."""

from __future__ import annotations

import enum
from typing import Any

from pydantic import StrictBool, StrictInt
from ringfence import Hook, WireModel

READ = "gitops.source.read"


class ObjectChange(WireModel):
    """What became of one object; `drift`: somebody had changed it, and the repository had not."""

    kind: str
    name: str
    change: str
    drift: StrictBool = False


class GitopsSynced(WireModel):
    """What a commit declares holds now. `changes` are the first 100 of `changed`."""

    source: str
    commit: str
    subject: str
    author: str
    objects: StrictInt
    changed: StrictInt
    drifted: StrictInt
    changes: tuple[ObjectChange, ...] = ()


class GitopsFailed(WireModel):
    """A repository cannot be followed, and nothing was changed. It is told once, until the reason is another."""

    source: str
    commit: str | None = None
    error: str
    file: str | None = None
    line: StrictInt | None = None


class SourceChange(enum.StrEnum):
    """What was done with a source."""

    CREATED = "created"
    UPDATED = "updated"
    REMOVED = "removed"


class GitopsSourceChanged(WireModel):
    """Somebody has added, changed or removed a repository that is followed. No secret is in it, but their names."""

    source: str
    change: SourceChange
    definition: dict[str, Any]
    acts_for: str


class GitopsObjectReleased(WireModel):
    """An object that came from git can be changed by hand from now on; with `given_back`, it comes from git again."""

    kind: str
    name: str
    source: str
    given_back: StrictBool = False


def stream_of(source: str) -> str:
    """The stream of a source's events."""
    return f"gitops.{source}"


gitops_synced = Hook("gitops-synced", GitopsSynced, payload_rule=READ)
gitops_failed = Hook("gitops-failed", GitopsFailed, payload_rule=READ)
gitops_source_changed = Hook(
    "gitops-source-changed", GitopsSourceChanged, keep_forever=True, payload_rule=READ
)
gitops_object_released = Hook(
    "gitops-object-released", GitopsObjectReleased, keep_forever=True, payload_rule=READ
)
