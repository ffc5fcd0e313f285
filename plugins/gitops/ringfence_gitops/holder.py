"""Says of an object that comes from git where it stands, for whoever tries to change it elsewhere."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_gitops.sources import table
from ringfence_gitops.sources.source import PREFIX, name_of_owner, shortened


class GitHolder:
    """Holds what the sources have applied: see `ringfence.declaring.ObjectHolder`."""

    def holds(self, source: str) -> bool:
        """See `ObjectHolder`."""
        return source.startswith(PREFIX)

    async def sentence(
        self, session: AsyncSession, kind: str, name: str, source: str, place: str | None
    ) -> str:
        """See `ObjectHolder`."""
        try:
            found = await table.named(session, name_of_owner(source))
        except table.UnreadableSourceError:
            found = None
        commit = source.partition("@")[2]
        told = f"commit {shortened(commit)}" if commit else "no commit"
        if found is not None and found.commit == commit and found.subject:
            told += f" “{found.subject}”"
        where = f"{file_of(found.spec.path if found is not None else '', place)}, " if place else ""
        return (
            f"{kind} {name} comes from the git source {name_of_owner(source)} ({where}{told}): change it there, "
            f"or release it with ringfence gitops release {kind} {name}"
        )

    def page(self, source: str) -> str | None:
        """See `ObjectHolder`."""
        return f"/gitops/{name_of_owner(source)}"


def file_of(path: str, place: str) -> str:
    """A place within a directory, as one within the repository: without the column."""
    file = place.rpartition(":")[0]
    return f"{path}/{file}" if path else file
