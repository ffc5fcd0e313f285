"""Run scripts: ask for the policy, plan, wait for a free place, launch, and say what happened."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from ringfence import tracing
from ringfence.sandbox import (
    PolicySnapshot,
    SandboxPolicy,
    SandboxReport,
    current_policy,
)
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.primitives import mounted_beneath
from ringfence.sandbox.capabilities.probe import probe, remembered
from ringfence.sandbox.egress.record import EgressRecord
from ringfence.sandbox.launch.making import scratch
from ringfence.sandbox.launch.making.scratch import HOME, remove_orphans
from ringfence.sandbox.launch.pool import Pool, Want
from ringfence.sandbox.launch.supervision.supervise import Bounds, Listen, Outcome, Stop
from ringfence.sandbox.launch.supervision.supervise import run as supervise
from ringfence.sandbox.launch.words import Hand, Handed, LaunchFailed
from ringfence.sandbox.limits.per_process import raise_open_files
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.environment import ScriptEnvironment, base_environment, compose
from ringfence.sandbox.plan.furnish import STATE
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan, Refusal
from ringfence.sandbox.wrappers.barriers import barrier
from ringfence.sandbox.wrappers.bottom import EVERYBODY
from ringfence.scripts.choosing.choice import Choice, NotRunnable, choose
from ringfence.scripts.choosing.programs_inside import found
from ringfence.scripts.interpreters.kinds import Kind, runner_of
from ringfence.scripts.masking.mask import Mask
from ringfence.scripts.masking.results import masked
from ringfence.scripts.request import ScriptKind, ScriptRequest
from ringfence.scripts.result import REFUSED_EXIT_CODE, RunResult, Stopped, Timing
from ringfence.scripts.running.given_packages import GivenPackages, given_packages
from ringfence.scripts.running.given_value import MAX_VALUE_BYTES, value_of
from ringfence.scripts.running.hosts_view import is_outdated, looks_at_host, place_of_the_host, with_host
from ringfence.scripts.running.narrowing import Governed
from ringfence.scripts.running.report_notes import (
    INTERPRETER,
    PACKAGES,
    nothing_held,
    told_of_host,
    with_dropped,
    with_left,
    with_link,
    with_mended,
    with_packages,
    with_state,
    with_told,
)
from ringfence.scripts.running.settings import RunnerSettings
from ringfence.scripts.running.tally import Tally

LONG_OUTPUT = 64 * 1024
"""From so much on, it takes more than milliseconds to look for secrets in what a script gave back."""

LONG_SCRIPT = 16 * 1024
"""From so much on, it may take more than milliseconds to look for what a script calls."""

LONG_ALLOWLIST = 250
"""From so many entries on, a filter takes more than milliseconds to plan."""

MOST_LOOKS = 5
"""So often the host is looked at for a run, if what was found is gone by the time at which it is to be shown."""


class _OutdatedLookError(Exception):
    """Nothing has run, since the host is not any more as it was when the run was planned."""

    def __init__(self, refusal: RunResult) -> None:
        super().__init__()
        self.refusal = refusal


_STOPPED = {
    Stop.TIMEOUT: Stopped.TIMEOUT,
    Stop.OUTPUT: Stopped.OUTPUT,
    Stop.MEMORY: Stopped.MEMORY,
    Stop.FILES: Stopped.FILES,
    Stop.VALUE: Stopped.VALUE,
    Stop.UNWATCHED: Stopped.UNWATCHED,
}


class Runner:
    """Runs scripts with one set of host settings. A process has one; see `run` and `configure`."""

    def __init__(self, settings: RunnerSettings) -> None:
        self.settings = settings
        self.tally = Tally()
        raise_open_files()
        self.pool = Pool(settings.warm_sandboxes, settings.warm_idle_s)
        # Beside the first runs: none of them waits for what a killed supervisor left, nor is overtaken for that.
        threading.Thread(target=remove_orphans, name="ringfence-orphans", daemon=True).start()
        self._environment = base_environment(os.environ)
        self._places: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Places] = (
            weakref.WeakKeyDictionary()
        )

    async def run(
        self, snapshot: PolicySnapshot, request: ScriptRequest, *, capabilities: Capabilities | None = None
    ) -> RunResult:
        """Run one script under a policy; waits in the queue while too many run already."""
        try:
            result = await self._governed(snapshot, request, capabilities)
        except BaseException as error:
            self.tally.raised(error)
            raise
        self.tally.end(result)
        return result

    async def _governed(
        self, snapshot: PolicySnapshot, request: ScriptRequest, capabilities: Capabilities | None
    ) -> RunResult:
        asked = time.monotonic()
        governed = Governed.of(snapshot, request.needs)
        if (refused := governed.refusal()) is not None:
            return _refused(refused, asked)
        try:
            choice: Choice | NotRunnable = choose(request)
        except NotRunnable as reason:
            choice = reason
        packages = await given_packages(request, choice, governed.snapshot.policy, self.settings.packages)
        try:
            for _ in range(MOST_LOOKS):
                try:
                    return await self._run(governed, request, choice, packages, capabilities, asked)
                except _OutdatedLookError as error:
                    outdated = error.refusal
            return outdated
        finally:
            packages.close()

    async def _run(
        self,
        governed: Governed,
        request: ScriptRequest,
        choice: Choice | NotRunnable,
        packages: GivenPackages,
        capabilities: Capabilities | None,
        asked: float,
    ) -> RunResult:
        snapshot = governed.snapshot
        # Where nothing runs it, the policy's own refusals are still told.
        runs = runner_of(ScriptKind.SHELL if isinstance(choice, NotRunnable) else choice.kind)
        inputs = _inputs(runs.interpreter, packages.directory)
        if looks_at_host(snapshot.policy):
            inputs = await asyncio.to_thread(with_host, inputs, snapshot.policy, within=governed.within)
        if request.state is not None:
            inputs = replace(inputs, state=True)
        planned = await _planned(capabilities or await self._capabilities(snapshot.policy), snapshot, inputs)
        if isinstance(planned, Refusal):
            return _refused(governed.told(planned.report), asked)
        if (report := governed.told(planned.report)) is not planned.report:
            planned = replace(planned, report=report)
        if not isinstance(choice, NotRunnable):
            choice = found(choice, planned)
        secrets = request.secret_env or {}
        mask = Mask((*secrets.values(), *request.masked))
        if isinstance(choice, NotRunnable):
            return _refused(nothing_held(planned.report, mask.text(str(choice)), INTERPRETER), asked)
        if (lacks := packages.refused_by(planned, request)) is not None:
            return _refused(nothing_held(planned.report, mask.text(lacks), PACKAGES), asked)
        environment = compose(self._environment, {**(request.env or {}), **secrets})
        command = runs.command(planned, {**environment.base, **place_of_the_host(planned)})
        if request.input is not None:
            command = replace(command, reads=True)
        if planned.state:
            command = command.saying_ready()
        hold = None if packages.pin is None else packages.pin.again
        want = Want(planned, command, (snapshot.revision, snapshot.source), hold)
        hand = partial(_handed, runs, planned, choice, request, environment.extra)
        limit = planned.resources.max_output_bytes
        bounds = Bounds(request.timeout_ms / 1000, limit, MAX_VALUE_BYTES)
        ready = time.monotonic()
        async with self._place():
            queued = time.monotonic() - ready
            try:
                listen = None if secrets or request.masked else request.listen
                with self.tally.running:
                    beforehand = _beforehand(planned, governed, choice, request, environment, packages, mask)
                    said = asyncio.ensure_future(beforehand)
                    try:
                        outcome, warm = await self._launch(want, hand, bounds, listen, request.state or b"")
                        report, untold = await said
                    finally:
                        said.cancel()
            except LaunchFailed as error:
                refusal = _refused(nothing_held(planned.report, mask.text(str(error))), asked)
                if not error.begun and is_outdated(planned):
                    raise _OutdatedLookError(refusal) from error
                return refusal
        self.tally.launched(queued_s=queued, warm=warm)
        # The next one's sandbox is made when this one's caller has its result.
        asyncio.get_running_loop().call_soon(self.pool.refill, want)
        timing = Timing(
            queued_ms=_ms(queued),
            prepare_ms=_ms(outcome.prepare_s),
            run_ms=_ms(outcome.run_s),
            cpu_ms=None if outcome.cpu_s is None else _ms(outcome.cpu_s),
            warm=warm,
        )
        report = with_state(with_left(with_link(report, outcome), outcome), request, outcome)
        result = _result(outcome, choice.kind, report, timing, asked)
        if (used := packages.used_by(planned)) is not None:
            result = result.model_copy(update={"packages": used})
        if untold is not None:
            result = result.model_copy(update={"untold": untold})
        if len(result.stdout) + len(result.stderr) + len(outcome.value or b"") > LONG_OUTPUT:
            return await asyncio.to_thread(masked, result, mask)
        return masked(result, mask)

    async def _capabilities(self, policy: SandboxPolicy) -> Capabilities:
        """What this host can enforce, as far as a policy asks.

        It is probed off the loop, by the first run that needs it, and again by each that comes after a probe that
        failed by a fault which may pass.
        """
        links = policy.enabled and not policy.network.denies_everything
        wrapper = self.settings.wrapper
        if (known := remembered(links=links, wrapper=wrapper)) is not None:
            return known
        return await asyncio.to_thread(probe, links=links, wrapper=wrapper)

    async def _launch(
        self, want: Want, hand: Hand, bounds: Bounds, listen: Listen | None, state: bytes
    ) -> tuple[Outcome, bool]:
        """Run in a waiting sandbox, if there is one, or in one made now; also in one made now if the other had died."""
        waiting = self.pool.take(want)
        if waiting is not None:
            try:
                return await supervise(waiting, hand, bounds, listen, state), True
            except LaunchFailed as error:
                if error.begun:
                    raise
                # It was killed while it waited; nothing of the script has run.
                waiting = None
        return await supervise(await self.pool.make(want), hand, bounds, listen, state), False

    def _place(self) -> _Places:
        """Hold a place of those that there are, while the block runs; waits for a free one."""
        loop = asyncio.get_running_loop()
        if (places := self._places.get(loop)) is None:
            places = self._places[loop] = _Places(self.settings.max_concurrent_runs, self.tally)
        return places


class _Places(asyncio.Semaphore):
    """The places for runs on one loop. Who waits for one is counted."""

    def __init__(self, most: int, tally: Tally) -> None:
        super().__init__(most)
        self._tally = tally

    async def acquire(self) -> Literal[True]:
        with self._tally.waiting:
            return await super().acquire()


_runner: Runner | None = None


def configure(settings: RunnerSettings) -> None:
    """Use these host settings from now on, in place of those of the environment. Waiting sandboxes are thrown away."""
    global _runner
    if _runner is not None:
        _runner.pool.clear()
    _runner = Runner(settings)


def runner() -> Runner:
    """This process's runner. Raises `RunnerSettingsError` when it is made, if the environment's settings are wrong."""
    global _runner
    if _runner is None:
        _runner = Runner(RunnerSettings.from_environment())
    return _runner


async def run(request: ScriptRequest) -> RunResult:
    """Run a script under the policy that holds now. There is no way to bring another: see `set_policy_provider`."""
    snapshot = await current_policy()
    with tracing.span("run in the sandbox", revision=snapshot.revision):
        return await runner().run(snapshot, request)


async def run_under(
    snapshot: PolicySnapshot, request: ScriptRequest, *, capabilities: Capabilities | None = None
) -> RunResult:
    """Run a script under a given policy; for tools like `ringfence run --policy`, not for callers within a host."""
    return await runner().run(snapshot, request, capabilities=capabilities)


def _inputs(interpreter: Interpreter, packages: str | None) -> Inputs:
    """What a run needs, with what is to be known of the package tree."""
    if packages is None:
        return Inputs(interpreter)
    private = barrier(f"{packages}/any", EVERYBODY, EVERYBODY) is not None
    return Inputs(interpreter, packages, mounted_beneath((packages,)), private)


async def _planned(capabilities: Capabilities, snapshot: PolicySnapshot, inputs: Inputs) -> Plan | Refusal:
    """What to do for a run; decided off the loop where the policy is so long that it takes a while."""
    if len(snapshot.policy.network.allow) > LONG_ALLOWLIST:
        return await asyncio.to_thread(plan, capabilities, snapshot, inputs)
    return plan(capabilities, snapshot, inputs)


def _refused(report: SandboxReport, asked: float) -> RunResult:
    return RunResult(
        exit_code=REFUSED_EXIT_CODE,
        stopped=Stopped.REFUSED,
        duration_ms=_since(asked),
        sandbox=report,
    )


def _handed(
    runs: Kind,
    planned: Plan,
    choice: Choice,
    request: ScriptRequest,
    extra: Mapping[str, str],
    directory: str,
) -> Handed:
    """What a sandbox is handed for a run that starts now."""
    seconds = request.timeout_ms / 1000
    # In whole seconds, so that a shell can reckon with it, and never too late.
    deadline = int(time.time() + seconds)
    facts = {
        **request.facts,
        "RINGFENCE_TIMEOUT_SECONDS": f"{seconds:g}",
        "RINGFENCE_DEADLINE": str(deadline),
    }
    also: dict[str, object] = {"timeoutSeconds": seconds, "deadline": deadline}
    if planned.state:
        # A plain run's script and home are in one place.
        plain = f"{os.path.dirname(directory)}/{HOME}/{scratch.STATE}"
        also["stateDir"] = facts["RINGFENCE_STATE_DIR"] = plain if planned.wrapper is None else STATE
    if request.facts and isinstance(request.context, dict):
        # Whoever is told facts as variables finds all of them in the context, too.
        request = replace(request, context={**request.context, **also})
    handed = runs.handed(choice, request, {**extra, **facts}, directory)
    return handed if request.stdin is None else replace(handed, stdin=request.input)


async def _beforehand(
    planned: Plan,
    governed: Governed,
    choice: Choice,
    request: ScriptRequest,
    environment: ScriptEnvironment,
    packages: GivenPackages,
    mask: Mask,
) -> tuple[SandboxReport, str | None]:
    """What can be said of a run before it ends: its report, and why what it tells of the host is not so."""
    telling = partial(told_of_host, choice, request, planned, governed)
    is_long = len(choice.source or b"") > LONG_SCRIPT
    untold, told = await asyncio.to_thread(telling) if is_long else telling()
    report = with_mended(with_dropped(planned.report, environment), choice)
    report = with_packages(with_told(report, None if told is None else mask.text(told)), packages)
    return report, None if untold is None else mask.text(untold)


def _result(
    outcome: Outcome, kind: ScriptKind, report: SandboxReport, timing: Timing, asked: float
) -> RunResult:
    value, problem = value_of(outcome)
    return RunResult(
        exit_code=outcome.exit_code,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
        timed_out=outcome.stopped is Stop.TIMEOUT,
        output_truncated=outcome.stopped is Stop.OUTPUT,
        duration_ms=_since(asked),
        value=value,
        value_error=problem,
        stopped=_STOPPED[outcome.stopped] if outcome.stopped else None,
        timing=timing,
        kind=kind,
        kept_state=None if outcome.state is None else outcome.state.archive,
        state_error=None if outcome.state is None else outcome.state.problem,
        egress=None if outcome.tried is None else EgressRecord.model_validate(outcome.tried),
        sandbox=report,
    )


def _since(moment: float) -> float:
    return _ms(time.monotonic() - moment)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
