"""What the engine knows of one revision of an automation, and where it gets that from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.definition import Mode
from ringfence_automations.runs.deciding.plan import Evaluates, Plan


class NoPlanError(RuntimeError):
    """A revision cannot be had, or cannot be read any more; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """One revision of an automation, ready to be run."""

    name: str
    revision: int
    plan: Plan
    mode: Mode = Mode.SINGLE
    most: int = 1
    key: Evaluates | None = None
    conditions: Sequence[Evaluates] = ()


class Plans(Protocol):
    """Where revisions come from."""

    async def at(self, session: AsyncSession, name: str, revision: int) -> Compiled:
        """That revision of an automation. Raises NoPlanError."""
        ...
