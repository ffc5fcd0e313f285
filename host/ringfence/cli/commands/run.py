"""`ringfence run`: one script, in one sandbox, with its report; here, or on a satellite."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.cli import output, report
from ringfence.cli.address import local_data_dir
from ringfence.cli.command_tree import plugged
from ringfence.cli.completing import names_as
from ringfence.cli.extension_points import Given, Outcome, ScriptToRun
from ringfence.cli.given.needs import NeedNetwork, NeedsOption, needed
from ringfence.cli.given.packages import PackagesOption, packages_here
from ringfence.cli.given.policies import policy_here
from ringfence.cli.given.scripts import (
    Arguments,
    Code,
    Kind,
    ScriptFile,
    ScriptKind,
    Variables,
    kind_of,
    name_of,
    read_file,
    read_script,
    variables,
)
from ringfence.cli.options import AsJson
from ringfence.cli.profiles import config_dir
from ringfence.cli.streaming import Streaming
from ringfence.process.errors import INTERRUPTED, CliError, UsageMistake
from ringfence.process.runner import check_runner

if TYPE_CHECKING:
    from ringfence.sandbox import PolicySnapshot
    from ringfence.scripts import RunResult

DEFAULT_TIMEOUT_SECONDS = 60.0
LARGEST_TIMEOUT_SECONDS = 24 * 3600.0


def run(
    file: ScriptFile = None,
    args: Arguments = None,
    code: Code = None,
    kind: ScriptKind = None,
    command: Annotated[
        bool,
        typer.Option("--command", help="FILE is no script, but a program that is inside: run it there."),
    ] = False,
    env: Variables = None,
    stdin: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What it reads as its standard input; - passes this command's on."),
    ] = None,
    needs: NeedsOption = None,
    need_network: NeedNetwork = None,
    packages: PackagesOption = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="A partial policy (JSON) over the shipped default, for this run alone."
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(min=0.001, max=LARGEST_TIMEOUT_SECONDS, metavar="S", help="Wall-clock seconds."),
    ] = DEFAULT_TIMEOUT_SECONDS,
    satellite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Run on that satellite, under its policy.",
            autocompletion=names_as("satellite", "show"),
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option(metavar="JSON", help="What a Python or ESM script gets as its context.")
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="With --satellite: show the run's id, and wait for nothing."),
    ] = False,
    deliver_within: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=LARGEST_TIMEOUT_SECONDS,
            metavar="S",
            help="With --satellite: seconds that the run may wait for the satellite to be connected.",
        ),
    ] = 300.0,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show the sandbox's whole report at the end.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show nothing but what the script writes and gives back.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run one script in the sandbox, and say in one line how it ended.

    Needs no running host: its policy holds where one can be read, and the fail-closed profile otherwise.
    Ctrl-C ends the script, on a satellite too. The exit status is the script's, 124 for a timeout, 125 for a refusal.
    """
    given = _given(file, code, command=command, args=args, env=env, stdin=stdin)
    kind = kind or (Kind.PROGRAM if command else kind_of(file, given.script or b""))
    value = _context(context)
    narrowed = needed(needs, need_network)
    milliseconds = max(1, round(timeout * 1000))
    if satellite is not None:
        if policy is not None:
            raise UsageMistake(
                "--policy cannot be used with --satellite: a satellite runs under the host's policy alone",
                hint="Change that one with `ringfence policy patch`.",
            )
        outcome = _run_elsewhere(
            ScriptToRun(
                satellite,
                kind,
                given,
                value,
                milliseconds,
                deliver_within,
                detach,
                as_json,
                narrowed,
                packages,
            )
        )
    elif detach:
        raise UsageMistake("--detach needs --satellite: a run here ends with this command")
    else:
        outcome = _run_here(
            policy_here(policy, quiet=as_json or quiet),
            kind,
            given,
            value,
            milliseconds,
            narrowed,
            packages,
            shows=not as_json,
        )
    if outcome.result is not None:
        if as_json:
            output.print_json(outcome.result)
        else:
            report.show_output(outcome.result, outcome.shown)
            if not quiet:
                report.show(outcome.result, verbose=verbose)
        raise typer.Exit(report.exit_status(outcome.result))


def _given(
    file: str | None,
    code: str | None,
    *,
    command: bool,
    args: Sequence[str] | None,
    env: Sequence[str] | None,
    stdin: str | None,
) -> Given:
    if command and (file is None or code is not None):
        raise UsageMistake(
            "--command needs a program", hint="Example: ringfence run --command /usr/bin/df -- -P /"
        )
    if stdin == "-" == file and not command:
        raise UsageMistake("the script and its standard input cannot both come from standard input")
    return Given(
        script=None if command else read_script(file, code),
        name="" if command else name_of(file),
        command=(str(file),) if command else None,
        args=tuple(args or ()),
        env=variables(env),
        stdin=None if stdin is None else read_file(stdin),
    )


def _context(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageMistake(f"--context is not JSON: {error}") from error


def _run_elsewhere(script: ScriptToRun) -> Outcome:
    outcome: Outcome | None = plugged().hook.run_elsewhere(script=script)
    if outcome is None:
        raise CliError("no plugin of this installation runs scripts on satellites")
    return outcome


def _run_here(
    snapshot: PolicySnapshot,
    kind: Kind,
    given: Given,
    context: object,
    timeout_ms: int,
    needs: Mapping[str, Any] | None,
    packages: str | None,
    *,
    shows: bool,
) -> Outcome:
    """Run it, and show its output as it comes, if it `shows` anything."""
    import asyncio

    from ringfence.process.signals import until_stopped
    from ringfence.sandbox import Needs
    from ringfence.sandbox.launch.kept import KEPT
    from ringfence.scripts import ScriptKind, ScriptRequest, run_under

    check_runner()
    if (data_dir := local_data_dir()) is not None:
        # Of a host on this machine, whose scripts this is not.
        KEPT.add(data_dir)
    if (profiles := config_dir()) is not None:
        KEPT.add(profiles)
    try:
        request = ScriptRequest(
            kind=ScriptKind(kind),
            script=given.script,
            context=context,
            timeout_ms=timeout_ms,
            env=given.env,
            command=given.command,
            name=given.name,
            args=given.args,
            stdin=given.stdin,
            needs=None if needs is None else Needs.parse(needs),
            packages=packages,
        )
    except ValueError as error:
        raise UsageMistake(f"this cannot be run: {error}") from error
    request = packages_here(request)
    result: RunResult | None = None
    streaming: Streaming | None = None

    async def work() -> None:
        nonlocal result, streaming
        if not shows:
            result = await run_under(snapshot, request)
            return
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end() -> None:
            # Whoever reads has gone. (The loop may have ended, too.)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)

        with Streaming(end) as streaming:
            result = await run_under(snapshot, replace(request, listen=streaming.listen))

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(until_stopped(work()))
    if streaming is not None and streaming.failure is not None:
        raise streaming.failure
    if result is None:
        raise CliError("the run was cancelled", exit_code=INTERRUPTED)
    return Outcome(
        result.model_dump(mode="json", by_alias=True), {} if streaming is None else streaming.shown
    )
