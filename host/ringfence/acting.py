"""In whose name code runs: a plugin's handler, job, route or task. What it starts inherits that.

Whoever holds up an instance is told by it (`ringfence.plugins.blocked_loop`).
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from types import TracebackType

Acting = Mapping[str, str]
"""The `plugin`, and what of it: its `handler` and `hook`, `job`, `route`, `task` or `phase`."""

ACTING: contextvars.ContextVar[Acting | None] = contextvars.ContextVar("ringfence.acting", default=None)


class acting:
    """A block in which code runs in somebody's name: `with acting({"plugin": "diary", "task": "upkeep"}):`."""

    __slots__ = ("_acting", "_token")

    def __init__(self, acting: Acting) -> None:
        self._acting = acting

    def __enter__(self) -> None:
        self._token = ACTING.set(self._acting)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            ACTING.reset(self._token)
        except ValueError:
            # A coroutine that nobody awaits any more is closed in whichever context drops it.
            return


def context_of(acting: Acting) -> contextvars.Context:
    """The context of who asks, but for code that runs in this name."""
    context = contextvars.copy_context()
    context.run(ACTING.set, acting)
    return context
