"""Objects that are declared in files: what documents are, how a plugin adds a kind of them, and how they are applied.

How it is done, and why:

- A kind is an extension: a plugin adds an `ObjectKind` for its own objects to the host's extension point, as for any
  other. The host knows documents, sources, differences and transactions, and not one object.
- Everything that `apply` does happens in one transaction of the database. A kind gets a `Work`, and builds the very
  services that its routes use over `work.joined(context)`: what begins a transaction of its own elsewhere is a
  savepoint of this one there. So no logic is written twice, rules, events and audit are those of the routes, and what
  a later document asks for (a satellite's id) an earlier one of the same request has made.
- A plan is what has happened: each object is read, written and read again. If both are the same, its savepoint is
  rolled back, so that an unchanged object makes no event; a dry run rolls all of it back. What `--dry-run` and `diff`
  show cannot differ from what `apply` does.
- What is wrong is told at once for all documents. Texts are checked first, then rules, then each object by itself.
- The host reads the files, as the command line may have no YAML. It says which other files the documents refer to, and
  the caller sends those; so that a command line, a git plugin and a program of somebody's own share one reader.

Threat: whoever applies documents does what their rules do not allow, takes over what another source owns, or has the
host read a file of its own. Mechanism: every object needs the rules that its route needs, by the same functions; an
object belongs to the source that applied it, and another one is refused; the host opens no file. Not covered: what
somebody changes by hand is set right by the next `apply`, and refused before only where a plugin holds the object
(`ringfence.declaring.holding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ringfence.declaring.applying import (
    DELETED,
    UNCHANGED,
    Applied,
    Declarations,
    Outcome,
    Wanted,
)
from ringfence.declaring.holding import Held, ObjectHolder, held, held_among, refuse_if_held
from ringfence.declaring.kind import (
    NotAllowedHereError,
    ObjectKind,
    Stored,
    Work,
    WrongDocumentError,
    checked,
    findings,
)
from ringfence.declaring.ownership import Owned, owner_of
from ringfence.declaring.reading import DOCUMENT_SUFFIXES, Told, WrongFilesError

if TYPE_CHECKING:
    from ringfence.plugins.context import PluginContext

__all__ = [
    "DELETED",
    "DOCUMENT_SUFFIXES",
    "UNCHANGED",
    "Applied",
    "Declarations",
    "Held",
    "NotAllowedHereError",
    "ObjectHolder",
    "ObjectKind",
    "Outcome",
    "Owned",
    "Stored",
    "Told",
    "Wanted",
    "Work",
    "WrongDocumentError",
    "WrongFilesError",
    "checked",
    "declarations",
    "findings",
    "held",
    "held_among",
    "owner_of",
    "refuse_if_held",
]


def declarations(context: PluginContext) -> Declarations:
    """What a plugin applies documents by: as `ringfence apply` does, with the kinds of this host."""

    def kinds() -> Mapping[str, ObjectKind[Any]]:
        every: tuple[ObjectKind[Any], ...] = context.services.extensions(ObjectKind)
        return {one.kind: one for one in every}

    return Declarations(context, kinds, lambda: context.services.extensions(ObjectHolder))
