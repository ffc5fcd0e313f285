"""Runs what the host asks for, through the shared runner and nothing else, and fits the result into a frame.

The shared runner asks the process's policy provider which policy holds and enforces it, and bounds how many
scripts run at once. Here is bounded only how many may wait for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import structlog
from ringfence import tracing
from ringfence.bounded import cleaned
from ringfence.sandbox.policy import Needs
from ringfence.scripts import NoSecretsError, RunResult, ScriptRequest, StateUnavailableError, run_keeping

from ringfence_satellite.agent.running.place import Place
from ringfence_satellite.agent.scheduled.states import KeptStates
from ringfence_satellite.protocol import (
    CONTEXT,
    MAX_FRAME_BYTES,
    NARROWED,
    PACKAGES,
    TASK,
    JsonObject,
    PlacedTask,
    RunFinished,
    RunScript,
)

MAX_RUNS = 64
"""How many runs may be under way or waiting at once; one more is turned away at once, with the reason."""
MAX_ERROR = 2000
"""The longest reason for which a run has no result, in characters."""

Listen = Callable[[str, bytes], None]
Run = Callable[[ScriptRequest], Awaitable[RunResult]]
Secrets = Callable[[str], Awaitable[Mapping[str, str]]]
_log = structlog.get_logger("ringfence.satellite.agent")


class Runner:
    """Answers each `run_script` with one `run_result`, whatever becomes of the script."""

    def __init__(
        self,
        run: Run,
        secrets: Secrets,
        place: Place | None = None,
        states: KeptStates | None = None,
        *,
        max_runs: int = MAX_RUNS,
    ) -> None:
        self._run = run
        self._secrets = secrets
        self._place = place or Place()
        self._states = states or KeptStates()
        self._max_runs = max_runs
        self._running = 0

    @property
    def busy(self) -> bool:
        """Whether the next run would be turned away."""
        return self._running >= self._max_runs

    async def answer(
        self, frame: RunScript, *, result_id: str | None = None, listen: Listen | None = None
    ) -> str:
        """Run it, tell `listen` what it writes, and return the encoded `run_result`.

        Raises nothing but what cancels it.
        """
        if self.busy:
            return _failed(frame.run_id, f"busy: {self._running} runs are under way or waiting", result_id)
        if set(frame.needs or ()) - {TASK, NARROWED, PACKAGES, CONTEXT}:
            return _failed(frame.run_id, "this agent is of an older release: upgrade it", result_id)
        with tracing.span("run a script", frame.traceparent, kind=tracing.Kind.CONSUMER, run=frame.run_id):
            return await self._answer(frame, result_id, listen)

    async def _answer(self, frame: RunScript, result_id: str | None, listen: Listen | None) -> str:
        self._running += 1
        try:
            task = None if frame.task is None else PlacedTask.read(frame.kind, frame.script, frame.task)
            request = replace(await self._request(frame, task), listen=listen)
            if task is None or not task.keep_state:
                result = await self._run(request)
            elif frame.config_id is None:
                # Of no check: there is nothing to find, and nothing is kept.
                result = await self._run(replace(request, state=b""))
            else:
                result = await run_keeping(self._run, request, self._states.of(frame.config_id))
            outcome = result.model_dump(mode="json", by_alias=True)
            outcome["traceparent"] = tracing.current() or frame.traceparent
            return fitted(frame.run_id, outcome, result_id=result_id)
        except NoSecretsError as error:
            return _failed(frame.run_id, f"the run's secrets are not available: {error}", result_id)
        except StateUnavailableError as error:
            return _failed(frame.run_id, f"the run's state is not available: {error}", result_id)
        except Exception as error:
            # The message may quote the script or a secret: the log keeps to the kind of error, the host
            # gets the text.
            _log.error("run failed", run_id=frame.run_id, error=type(error).__name__)
            return _failed(frame.run_id, f"the runner failed: {type(error).__name__}: {error}", result_id)
        finally:
            self._running -= 1

    async def _request(self, frame: RunScript, task: PlacedTask | None) -> ScriptRequest:
        """What a frame asks for. Raises `NoSecretsError`, and `ValueError` for what cannot be run here."""
        asks = frame.config_id is not None and (task is None or bool(task.secret_names))
        secrets = await self._secrets(frame.config_id) if asks and frame.config_id else frame.secret_env
        if task is not None:
            return task.request(
                secrets or {},
                {**self._place.facts, **task.facts},
                timeout_ms=frame.timeout_ms,
                variables=frame.variables,
                context=frame.context if isinstance(frame.context, dict) else None,
            )
        return ScriptRequest(
            kind=frame.kind,
            script=frame.script,
            name=frame.name or "",
            command=frame.command,
            args=frame.args or (),
            env=frame.env,
            stdin=frame.stdin,
            context=frame.context,
            timeout_ms=frame.timeout_ms,
            secret_env=secrets,
            packages=frame.packages,
            needs=None if frame.narrowed_to is None else Needs.parse(frame.narrowed_to),
        )


def fitted(
    run_id: str, outcome: JsonObject, max_bytes: int = MAX_FRAME_BYTES, *, result_id: str | None = None
) -> str:
    """The `run_result` of `outcome`, encoded, at most `max_bytes` long.

    What is too long loses, in this order, its value and then the ends of its output, and says so. The exit
    code and the sandbox report are never touched; if even they do not fit, the answer is an error.
    """
    outcome = {**outcome, "resultId": result_id}
    text = RunFinished.of(run_id, outcome).encode()
    if _bytes(text) > max_bytes and outcome.get("value") is not None:
        outcome = {**outcome, "value": None, "valueError": "too large to send with the run's result"}
        text = RunFinished.of(run_id, outcome).encode()
    while _bytes(text) > max_bytes:
        longer = max(("stdout", "stderr"), key=lambda name: len(outcome.get(name) or ""))
        output = outcome.get(longer) or ""
        if not output:
            return _failed(
                run_id, "the run's result is too large to send, even without its output", result_id
            )
        # In steps of an eighth, because how long a text is once it is JSON depends on what is in it.
        outcome = {**outcome, longer: output[: len(output) * 7 // 8], "outputTruncated": True}
        text = RunFinished.of(run_id, outcome).encode()
    return text


def _bytes(text: str) -> int:
    return len(text.encode())


def _failed(run_id: str, error: str, result_id: str | None) -> str:
    return RunFinished(run_id=run_id, error=cleaned(error, MAX_ERROR), result_id=result_id).encode()
