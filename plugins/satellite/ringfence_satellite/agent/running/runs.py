"""The runs that a host has asked for.

Each is run once and goes on when the connection ends, and its result is kept until it is acknowledged.

They live as long as this process, whose name a host is told, so that it can tell an agent which knows its runs from
one that was started anew. For a host that keeps no runs itself (it is older), a run ends with the connection, and its
result is sent over that or not at all.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from ringfence.redaction import describe

from ringfence_satellite.agent.delivering.result_delivery import Pace
from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.running.live_output import LiveOutputs
from ringfence_satellite.agent.running.runner import MAX_RUNS, Runner
from ringfence_satellite.protocol import MAX_HELD_RUNS, RunAccepted, RunFinished, RunScript

MAX_KEPT_RESULTS = MAX_HELD_RUNS - MAX_RUNS
"""How many results may wait: with the runs that are under way, no more than can be told to a host."""
MAX_REMEMBERED = 1024
"""How many runs that are over are remembered, so that none of them is run again."""
CANCELLED = "the run was cancelled while it ran, or waited for a place"
STOPPED = "the satellite's agent was stopped"

Send = Callable[[str], Awaitable[bool]]
_log = structlog.get_logger("ringfence.satellite.agent")


@dataclass(slots=True, eq=False)
class Line:
    """A connection to a host.

    `keeps`: that host takes the results of runs on any later connection too. `pace` is that of assignments' results.
    """

    send: Send
    keeps: bool = False
    pace: Pace = field(default_factory=Pace)


@dataclass(slots=True, eq=False)
class _Run:
    """A run that is under way: the script's work, what sees to its answer, and how its answer is to be named."""

    work: asyncio.Task[str]
    line: Line
    result_id: str | None
    answering: asyncio.Task[None] | None = None
    is_cancelled: bool = False


class AskedRuns:
    """Runs what is asked for, and sees to it that each answer arrives."""

    def __init__(self, runner: Runner, spool: Spool) -> None:
        self.process = str(uuid.uuid4())
        self.spool = spool
        self.outputs = LiveOutputs()
        self._runner = runner
        self._line: Line | None = None
        self._runs: dict[str, _Run] = {}
        self._over: OrderedDict[str, None] = OrderedDict()

    def held(self) -> tuple[str, ...]:
        """The runs that are under way for a host which keeps them, and those whose results wait."""
        kept = [id for id, run in self._runs.items() if run.result_id is not None]
        return tuple(dict.fromkeys((*kept, *self.spool.waiting())))[:MAX_HELD_RUNS]

    @asynccontextmanager
    async def connected(self, send: Send) -> AsyncIterator[Line]:
        """Take requests over this connection while the block runs. What its host does not keep ends with it."""
        line = self._line = Line(send)
        try:
            yield line
        finally:
            self._line = None
            await self._end(run for run in self._runs.values() if run.line is line and run.result_id is None)

    async def start(self, frame: RunScript, line: Line) -> None:
        """Run a script, unless this run has been asked for before."""
        if not any(frame.run_id in known for known in (self._runs, self._over, self.spool.waiting())):
            self._start(frame, line)
        if line.keeps:
            await line.send(RunAccepted(run_id=frame.run_id).encode())

    def cancel(self, run_id: str) -> None:
        """End a run where it is; its answer says that it was cancelled."""
        if (run := self._runs.get(run_id)) is not None:
            run.is_cancelled = True
            run.work.cancel()

    async def stop(self) -> tuple[str, ...]:
        """End all runs; the ids of the results that say so, for a host that can still be told."""
        running = tuple(self._runs.values())
        await self._end(running)
        return tuple(run.result_id for run in running if run.result_id is not None)

    def _start(self, frame: RunScript, line: Line) -> None:
        result_id = None
        if line.keeps:
            # The name of the file that it is kept in, which says after a restart whose result that is.
            result_id = frame.run_id if self.spool.can_name(frame.run_id) else str(uuid.uuid4())
        listen = self.outputs.listen(frame.run_id) if line.keeps and not frame.quiet else None
        work = asyncio.create_task(self._runner.answer(frame, result_id=result_id, listen=listen))
        run = self._runs[frame.run_id] = _Run(work, line, result_id)
        run.answering = asyncio.create_task(self._answer(frame.run_id, run))

    async def _answer(self, run_id: str, run: _Run) -> None:
        # This task is not cancelled: whatever ends the run, its answer is kept.
        await asyncio.wait([run.work])
        try:
            answer = self._ended_early(run_id, run) if run.work.cancelled() else run.work.result()
            if run.result_id is not None:
                await self._keep(run.result_id, answer)
            elif run.is_cancelled or not run.work.cancelled():
                await run.line.send(answer)
        except Exception as error:
            _log.error("the answer of a run is lost", run_id=run_id, error=describe(error))
        finally:
            self.outputs.over(run_id)
            del self._runs[run_id]
            self._over[run_id] = None
            while len(self._over) > MAX_REMEMBERED:
                self._over.popitem(last=False)

    async def _keep(self, result_id: str, answer: str) -> None:
        await self.spool.add(result_id, answer)
        if result_id not in self.spool.waiting() and self._line is not None and self._line.keeps:
            # It cannot be kept here: it is sent once, now or never.
            await self._line.send(answer)

    @staticmethod
    def _ended_early(run_id: str, run: _Run) -> str:
        error, cause = (CANCELLED, "cancelled") if run.is_cancelled else (STOPPED, "stopped")
        return RunFinished(run_id=run_id, error=error, cause=cause, result_id=run.result_id).encode()

    @staticmethod
    async def _end(runs: Iterable[_Run]) -> None:
        answers = []
        for run in tuple(runs):
            run.work.cancel()
            if run.answering is not None:
                answers.append(run.answering)
        if answers:
            await asyncio.wait(answers)
