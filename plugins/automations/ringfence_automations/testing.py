"""For tests of kinds of steps: one is performed as the engine would, without an engine."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from ringfence.web import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.bodies.marked import rendered
from ringfence_automations.service import Elsewhere, StepCall, StepFailed, StepKind, StepResult
from ringfence_automations.steps.filling_in import fill


async def perform(
    kind: StepKind[Any],
    body: Mapping[str, Any],
    *,
    session: AsyncSession,
    values: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    automation: str = "test",
) -> StepResult | Elsewhere:
    """Perform a step with this body: read by the kind's model, and its templates filled in from `values`.

    Raises what the kind raises, and what is wrong with the body.
    """
    known, seen = dict(secrets or {}), dict(values or {})

    async def give(names: Collection[str]) -> Mapping[str, str]:
        if missing := set(names) - known.keys():
            raise StepFailed(f"secret {', '.join(sorted(missing))} does not exist")
        return {name: known[name] for name in names}

    read = kind.model.model_validate(dict(body))
    call: StepCall[Any] = StepCall(
        run=uuid.uuid4(),
        path=kind.name,
        attempt=1,
        automation=automation,
        revision=1,
        body=rendered(read, lambda text: fill(text, seen)),
        values=seen,
        principal=Principal("test", frozenset()),
        deadline=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1),
        session=session,
        secrets=give,
    )
    return await kind.perform(call)
