"""Carry out a task once: fill in, run, read; whatever hinders that is a verdict too."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ringfence.scripts.reading import Assertion, AssertionSyntaxError, Format, Health, Verdict, read, unknown
from ringfence.scripts.request import ScriptRequest
from ringfence.scripts.result import RunResult
from ringfence.scripts.tasks.kept_result import kept
from ringfence.scripts.tasks.placeholders import UnknownPlaceholderError
from ringfence.scripts.tasks.state_store import StateStore, StateUnavailableError, run_keeping
from ringfence.scripts.tasks.task import Task

Run = Callable[[ScriptRequest], Awaitable[RunResult]]
Secrets = Callable[[Collection[str]], Awaitable[Mapping[str, str]]]


class NoSecretsError(RuntimeError):
    """A run cannot have its secrets; the message says why, and holds none."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What came of a task: what is said of the system, how that was read, and the run if there was one."""

    verdict: Verdict
    format: Format
    executed_at: dt.datetime
    run: RunResult | None = None

    @property
    def latency_ms(self) -> float | None:
        """How long the script took, in milliseconds."""
        return None if self.run is None else self.run.timing.run_ms

    def document(self, task: Task) -> dict[str, Any]:
        """All of it as JSON, for whoever tries the task: metrics are objects, and the run is whole."""
        kind = task.kind if self.run is None or self.run.kind is None else self.run.kind
        return {
            "status": self.verdict.status.value,
            "message": self.verdict.message,
            "metrics": {name: metric.to_object() for name, metric in self.verdict.metrics.items()},
            "assertions": [one.to_wire() for one in self.verdict.assertions],
            "notes": list(self.verdict.notes),
            "kind": kind.value,
            "format": self.format.value,
            "run": None if self.run is None else self.run.model_dump(mode="json", by_alias=True),
        }

    def detail(self) -> dict[str, Any]:
        """What is kept beside the verdict, as JSON."""
        return {"format": self.format.value, **({} if self.run is None else kept(self.run))}


async def carry_out(
    task: Task,
    facts: Mapping[str, str],
    *,
    secrets: Secrets,
    run: Run,
    timeout_ms: int,
    state: StateStore | None = None,
) -> Carried:
    """Run a task once where these facts hold.

    `secrets` raises `NoSecretsError`; what `run` raises goes through. `state` is where a task that keeps one has it; if
    that is None it finds nothing, and what it leaves is kept nowhere.
    """
    executed_at, format = dt.datetime.now(dt.UTC), task.read_as
    try:
        placed = task.placed(facts)
        claims = placed.claims()
        values = await secrets(placed.secret_names) if placed.secret_names else {}
        request = placed.request(values, facts, timeout_ms=timeout_ms)
    except NoSecretsError as error:
        verdict = unknown(f"not run: its secrets are not available: {error}")
    except (UnknownPlaceholderError, AssertionSyntaxError) as error:
        verdict = unknown(f"not run: {error}")
    except ValueError:
        # The text of the error may quote what was filled in, and that may be a secret.
        verdict = unknown("not run: what its placeholders stand for cannot be given to a program")
    else:
        try:
            if not task.keep_state:
                result = await run(request)
            elif state is None:
                result = await run(replace(request, state=b""))
            else:
                result = await run_keeping(run, request, state)
        except StateUnavailableError as error:
            verdict = unknown(f"not run: its state is not available: {error}")
        else:
            return Carried(judged(result, format, claims), format, executed_at, result)
    return Carried(verdict, format, executed_at)


def judged(result: RunResult, format: Format, claims: Sequence[Assertion]) -> Verdict:
    """What a run says of the system; unknown where the next run would not find what this one has kept for it."""
    verdict = read(result, format, claims)
    if result.state_error is None:
        return verdict
    said = f"without that it would be {verdict.status}: {verdict.message}"
    message = f"its state could not be kept: {result.state_error}"
    return replace(verdict, status=Health.UNKNOWN, message=message, notes=(*verdict.notes, said))
