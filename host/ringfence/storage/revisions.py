"""How a database stands to the migrations of this release: what is to be run, what is unknown. Reads only."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from alembic import command
from alembic.script import ScriptDirectory

from ringfence.storage.migrating import ALEMBIC, MigrationBranch, alembic_config

_CHANGED = re.compile(
    r"\b(?:ALTER TABLE(?: IF EXISTS)?(?: ONLY)?|UPDATE(?: ONLY)?|DELETE FROM(?: ONLY)?|"
    r"CREATE (?:UNIQUE )?INDEX(?: CONCURRENTLY)?(?: IF NOT EXISTS)? \w+ ON(?: ONLY)?)\s+\"?(\w+)\"?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Revision:
    """One migration: what it is called, and what it says that it does."""

    id: str
    what: str


def known(branch: MigrationBranch) -> frozenset[str]:
    """The revisions that this release has of a branch."""
    return frozenset(one.revision for one in _scripts(branch).walk_revisions())


def pending(branch: MigrationBranch, at: Sequence[str]) -> tuple[Revision, ...]:
    """The migrations that are to be run on a database at these revisions, in order."""
    scripts = _scripts(branch)
    found = scripts.iterate_revisions("heads", tuple(at) or "base", assert_relative_length=False)
    revisions = [
        Revision(one.revision, one.doc) for one in found if one is not None and one.revision not in at
    ]
    return tuple(reversed(revisions))


def changed_tables(branch: MigrationBranch, at: Sequence[str]) -> frozenset[str] | None:
    """The tables that the pending migrations may change or go through, as their SQL says; None if that is not known.

    It is known of migrations that are SQL alone, and not of those that ask the database what to do.
    """
    said = io.StringIO()
    config = alembic_config(branch)
    config.output_buffer = said
    config.attributes["connection"] = None
    config.attributes["version_table"] = branch.version_table
    try:
        with ALEMBIC:
            command.upgrade(config, f"{','.join(at) or 'base'}:heads", sql=True)
    except Exception:  # a migration is a program of anybody's
        return None
    return frozenset(_CHANGED.findall(said.getvalue())) - {branch.version_table}


def _scripts(branch: MigrationBranch) -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config(branch))
