"""What a sandboxed run costs, beside what it is compared with; all in one process, on this machine, one after another.

`plain` is the interpreter as an ordinary process; `bare` is the wrapper with the flags that the runner gives it (the
shipped default policy) and the limits set by a shell, started as the supervisor's own uid; `cold` and `warm` are
the runner. The wrapper is bubblewrap, and nsjail too where this machine has it. Each subject does nothing but start and
end. They take turns, so that a noisy moment hits all of them. `stop, resisting` is what a run takes to be gone when it
is stopped and has seen to it that its init gets no turn (from outside here, since a script may not): 100 processes that
spin, all on one processor.

With `--beside PATH`, the runs of this checkout are compared with those of another that has an environment of its own
(`make venv`), say a worktree of an earlier commit: see `_beside`.

Usage: python -m benchmarks.runs [--rounds N] [--json] [--beside PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.launch.making.furnishing import room_of
from ringfence.sandbox.limits.per_process import shell_limits
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.environment import base_environment
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan
from ringfence.sandbox.processes.descent import descendants
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.opened import Opened
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest
from ringfence.scripts.running.runner import Runner

from benchmarks._beside import compared, show

AT_ONCE = 16

Once = Callable[[], Awaitable[None]]

PROGRAMS = {
    ScriptKind.SHELL: (Interpreter.SHELL, ["-c", ":"]),
    ScriptKind.PYTHON: (Interpreter.PYTHON, ["-I", "-c", "pass"]),
}


@dataclass(frozen=True)
class Figure:
    """One subject: milliseconds per run one at a time, and runs per second at `AT_ONCE` at once, if that was tried."""

    kind: str
    subject: str
    median_ms: float
    p95_ms: float
    per_second: float | None = None


async def process(
    program: list[str], pass_fds: tuple[int, ...] = (), env: dict[str, str] | None = None
) -> None:
    """Start a process with its output read, as a runner does, and see it end well."""
    child = await asyncio.create_subprocess_exec(
        *program,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
        env=env,
    )
    _, errors = await child.communicate()
    if child.returncode != 0:
        raise RuntimeError(f"{program[0]} ended with {child.returncode}: {errors.decode()}")


async def bare(planned: Plan, words: list[str]) -> None:
    """The wrapper with the runner's own flags, and a shell in it that sets the limits and becomes the program."""
    if planned.wrapper is None:
        raise RuntimeError("this host has no wrapper")
    with contextlib.ExitStack() as held:
        opened = Opened(held, planned.wrapper)
        limited = shell_limits(planned.resources) + 'exec "$@"'
        command = opened.started(room_of(planned), ["/bin/sh", "-c", limited, "sh", *words])
        environment = {**base_environment(os.environ), **opened.environment}
        await process(command, tuple(opened.numbers), environment)


def subjects(
    kind: ScriptKind, snapshot: PolicySnapshot, wrappers: Sequence[WrapperKind]
) -> tuple[dict[str, Once], list[Runner]]:
    """What is compared for one kind of script. The warm runners' sandboxes wait before the clock starts."""
    interpreter, words = PROGRAMS[kind]
    compared: dict[str, Once] = {}
    pooled = []
    request = ScriptRequest(kind, "")

    async def run(runner: Runner) -> None:
        result = await runner.run(snapshot, request)
        if result.exit_code != 0:
            raise RuntimeError(result.stderr)

    for wrapper in wrappers:
        planned = plan(probe(wrapper=wrapper), snapshot, Inputs(interpreter))
        if not isinstance(planned, Plan):
            raise RuntimeError(f"this host refuses: {planned.report.downgrades}")
        command = [planned.program, *words]
        cold, warm = (
            Runner(RunnerSettings(max_concurrent_runs=AT_ONCE, warm_sandboxes=waiting, wrapper=wrapper))
            for waiting in (0, AT_ONCE)
        )
        pooled.append(warm)
        by = _by(wrapper)
        compared |= {
            "plain": functools.partial(process, command),
            f"bare{by}": functools.partial(bare, planned, command),
            f"cold{by}": functools.partial(run, cold),
            f"warm{by}": functools.partial(run, warm),
        }
    return compared, pooled


def _by(wrapper: WrapperKind) -> str:
    return "" if wrapper is WrapperKind.BUBBLEWRAP else f", {wrapper}"


async def one_at_a_time(once: Once, settle: Callable[[], Awaitable[None]]) -> float:
    """Milliseconds of one run, begun when nothing else is under way."""
    await settle()
    begun = time.perf_counter()
    await once()
    return (time.perf_counter() - begun) * 1000


async def at_once(once: Once, runs: int) -> float:
    """Runs per second with `AT_ONCE` under way at any time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def placed() -> None:
        async with places:
            await once()

    begun = time.perf_counter()
    await asyncio.gather(*(placed() for _ in range(runs)))
    return runs / (time.perf_counter() - begun)


async def until_ready() -> None:
    """Wait until our own children have stopped working: what waits ready is not measured while it is being made."""
    before = -1
    while (now := _worked()) != before:
        before = now
        await asyncio.sleep(0.05)


def _worked() -> int:
    """Processor time that our living descendants have used so far, in ticks, and how many there are."""
    found = descendants(os.getpid())
    worked = len(found)
    for pid in found:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            worked += 1000 * (int(fields[11]) + int(fields[12]))
    return worked


async def measure(kind: ScriptKind, rounds: int, wrappers: Sequence[WrapperKind]) -> list[Figure]:
    """All subjects of one kind."""
    snapshot = PolicySnapshot(DEFAULT_POLICY, revision=1)
    compared, pooled = subjects(kind, snapshot, wrappers)
    times: dict[str, list[float]] = {name: [] for name in compared}
    for once in compared.values():
        await once()
        await once()
    for _ in range(rounds):
        for name, once in compared.items():
            settle = until_ready if name.startswith("warm") else _nothing
            times[name].append(await one_at_a_time(once, settle))
    rates = {name: await at_once(once, max(rounds, AT_ONCE * 4)) for name, once in compared.items()}
    for runner in pooled:
        runner.pool.clear()
    return [
        Figure(
            kind=kind.value,
            subject=name,
            median_ms=round(statistics.median(values), 2),
            p95_ms=round(statistics.quantiles(values, n=20)[-1], 2),
            per_second=round(rates[name], 1),
        )
        for name, values in times.items()
    ]


async def _nothing() -> None:
    await asyncio.sleep(0)


async def allowlist(rounds: int, wrapper: WrapperKind) -> Figure | None:
    """A cold shell run with plumbed and filtered egress; None where this host cannot do that."""
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"network": {"allow": ["192.0.2.1:443"]}}), revision=1)
    if not isinstance(plan(probe(wrapper=wrapper), snapshot, Inputs(Interpreter.SHELL)), Plan):
        return None
    runner = Runner(RunnerSettings(max_concurrent_runs=AT_ONCE, warm_sandboxes=0, wrapper=wrapper))
    request = ScriptRequest(ScriptKind.SHELL, ":")

    async def once() -> None:
        result = await runner.run(snapshot, request)
        if result.exit_code != 0:
            raise RuntimeError(f"{result.stderr} {result.sandbox.downgrades}")

    await once()
    times = [await one_at_a_time(once, _nothing) for _ in range(rounds)]
    rate = await at_once(once, AT_ONCE * 2)
    return Figure(
        kind="shell",
        subject=f"cold, allowlist{_by(wrapper)}",
        median_ms=round(statistics.median(times), 2),
        p95_ms=round(statistics.quantiles(times, n=20)[-1], 2),
        per_second=round(rate, 1),
    )


SPINNING = """
import os
for _ in range(100):
    if os.fork() == 0:
        while True: pass
while True: pass
"""


FORKING_S = 120
"""How long a script may take to have made its processes, of which each wants all of a processor."""


async def resisting(rounds: int) -> Figure:
    """How long after it is stopped a run is gone that has demoted its init behind a hundred others."""
    snapshot = PolicySnapshot(DEFAULT_POLICY, revision=1)
    runner = Runner(RunnerSettings(max_concurrent_runs=AT_ONCE, warm_sandboxes=0))
    request = ScriptRequest(ScriptKind.PYTHON, SPINNING, timeout_ms=2 * FORKING_S * 1000)
    times = []
    for _ in range(rounds):
        run = asyncio.create_task(runner.run(snapshot, request))
        deadline = time.monotonic() + FORKING_S
        while not _demote(100):
            if run.done() or time.monotonic() > deadline:
                raise RuntimeError("it never had a hundred processes")
            await asyncio.sleep(0.02)
        begun = time.perf_counter()
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        times.append((time.perf_counter() - begun) * 1000)
    return Figure(
        kind="python",
        subject="stop, resisting",
        median_ms=round(statistics.median(times), 2),
        p95_ms=round(statistics.quantiles(times, n=20)[-1], 2),
    )


def _demote(most: int) -> bool:
    """Demote the init of the run that has so many processes; False if none has, yet."""
    spaces: dict[str, list[int]] = {}
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            spaces.setdefault(os.readlink(f"/proc/{pid}/ns/pid"), []).append(pid)
    for pids in spaces.values():
        if len(pids) > most:
            for pid in pids:
                os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
            # Parents come first, and its init is everybody's.
            os.sched_setscheduler(pids[0], os.SCHED_IDLE, os.sched_param(0))
            return True
    return False


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=60, help="runs of each subject, one at a time")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--beside", type=Path, metavar="PATH", help="compare with the runs of another checkout"
    )
    options = parser.parse_args()
    beside = options.beside and options.beside.resolve()
    os.chdir(tempfile.gettempdir())
    if beside:
        show(compared(beside, options.rounds), as_json=options.json)
        return
    wrappers = [kind for kind in WrapperKind if probe(links=False, wrapper=kind).wrapper.available]
    figures = [figure for kind in PROGRAMS for figure in await measure(kind, options.rounds, wrappers)]
    for wrapper in wrappers:
        filtered = await allowlist(max(options.rounds // 3, 2), wrapper)
        figures += [filtered] if filtered else []
    figures.append(await resisting(max(options.rounds // 20, 2)))
    if options.json:
        print(json.dumps([vars(figure) for figure in figures]))
        return
    print(f"{'':26}{'median ms':>10}{'p95 ms':>10}{f'per second, {AT_ONCE} at once':>26}")
    for figure in figures:
        name = f"{figure.kind:8}{figure.subject}"
        rate = "" if figure.per_second is None else figure.per_second
        print(f"{name:26}{figure.median_ms:>10}{figure.p95_ms:>10}{rate:>26}")


if __name__ == "__main__":
    asyncio.run(main())
