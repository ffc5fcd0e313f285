"""`ringfence run`: one script, in one sandbox, with its report; here, or on a satellite."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.cli import output, remote_run, report
from ringfence.cli.client import HostClient
from ringfence.cli.doctor import policy_from_file
from ringfence.cli.policy import POLICY, AsJson
from ringfence.cli.satellite import find
from ringfence.process.errors import INTERRUPTED, CliError, UsageMistake
from ringfence.process.runner import check_runner

if TYPE_CHECKING:
    from ringfence.sandbox import PolicySnapshot
    from ringfence.scripts import RunResult

DEFAULT_TIMEOUT_SECONDS = 60.0
LARGEST_TIMEOUT_SECONDS = 24 * 3600.0


class Kind(enum.StrEnum):
    """Which runner runs the script."""

    SHELL = "shell"
    PYTHON = "python"
    ESM = "esm"


KIND_BY_SUFFIX = {".py": Kind.PYTHON, ".mjs": Kind.ESM, ".js": Kind.ESM, ".sh": Kind.SHELL}

ScriptFile = Annotated[
    str | None, typer.Argument(metavar="FILE", help="The script; - reads it from standard input.")
]
Code = Annotated[str | None, typer.Option("-c", metavar="CODE", help="The script itself.")]
ScriptKind = Annotated[
    Kind | None, typer.Option(help="By default what the file's suffix says (.py, .mjs, .js), else shell.")
]


def run(
    file: ScriptFile = None,
    code: Code = None,
    kind: ScriptKind = None,
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
        str | None, typer.Option(metavar="NAME", help="Run on that satellite, under its policy.")
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
    as_json: AsJson = False,
) -> None:
    """Run one script in the sandbox and show the report.

    Needs no running host: its policy holds where one can be read, and the fail-closed profile otherwise.
    Ctrl-C ends the script, on a satellite too. The exit status is the script's, 124 for a timeout, 125 for a refusal.
    """
    script = read_script(file, code)
    kind = kind or KIND_BY_SUFFIX.get(Path(file).suffix if file else "", Kind.SHELL)
    value = _context(context)
    milliseconds = max(1, round(timeout * 1000))
    shown: dict[str, int] = {}
    if satellite is not None:
        if policy is not None:
            raise UsageMistake(
                "--policy cannot be used with --satellite: a satellite runs under the host's policy alone",
                hint="Change that one with `ringfence policy patch`.",
            )
        with HostClient.connect() as host:
            run = _ask(host, satellite, kind, script, value, milliseconds, deliver_within)
            if detach:
                _show_detached(run, as_json)
                return
            watched = None if as_json else remote_run.Output()
            result = remote_run.result_of(remote_run.follow(host, run, watched))
            shown = {} if watched is None else watched.shown
    elif detach:
        raise UsageMistake("--detach needs --satellite: a run here ends with this command")
    else:
        result = _run_here(_snapshot(policy, quiet=as_json), kind, script, value, milliseconds)
    _show(result, as_json, shown)
    raise typer.Exit(report.exit_status(result))


def read_script(file: str | None, code: str | None) -> bytes:
    """The script that a command line gives, in a file (`-`: standard input) or itself. Raises `UsageMistake`."""
    if (file is None) == (code is None):
        raise UsageMistake(
            "give a script: either FILE or -c CODE", hint="Example: ringfence run -c 'echo hello'"
        )
    if code is not None:
        return code.encode(errors="surrogateescape")
    assert file is not None
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageMistake(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # a name with a zero byte
        raise UsageMistake(f"cannot read {file!r}: {error}") from error


def _context(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageMistake(f"--context is not JSON: {error}") from error


def _snapshot(policy_file: str | None, *, quiet: bool) -> PolicySnapshot:
    """The policy for a run on this machine, and where it comes from; never the permissive path."""
    from ringfence.sandbox import PolicySnapshot, PolicySource, receive

    if policy_file is not None:
        return policy_from_file(policy_file)
    try:
        with HostClient.connect() as host:
            state = host.request("GET", POLICY, timeout=5.0)
        received, revision = receive(state["policy"]), int(state["revision"])
    except CliError as error:
        if not quiet:
            output.note(
                f"no host's policy can be read, so the fail-closed profile holds ({output.line(error)})"
            )
        return PolicySnapshot.fail_closed(f"no host's policy can be read: {error}")
    except (KeyError, TypeError, ValueError) as error:
        return PolicySnapshot.fail_closed(f"the host's answer holds no policy: {error!r}")
    return PolicySnapshot(
        received.policy,
        revision=revision,
        source=PolicySource.STORED if revision else PolicySource.DEFAULT,
        not_understood=received.not_understood,
    )


def _run_here(
    snapshot: PolicySnapshot, kind: Kind, script: bytes, context: object, timeout_ms: int
) -> dict[str, Any]:
    import asyncio

    from ringfence.process.signals import until_stopped
    from ringfence.scripts import ScriptKind, ScriptRequest, run_under

    check_runner()
    request = ScriptRequest(kind=ScriptKind(kind), script=script, context=context, timeout_ms=timeout_ms)
    result: RunResult | None = None

    async def work() -> None:
        nonlocal result
        result = await run_under(snapshot, request)

    asyncio.run(until_stopped(work()))
    if result is None:
        raise typer.Exit(INTERRUPTED)
    return result.model_dump(mode="json", by_alias=True)


def _ask(
    host: HostClient,
    name: str,
    kind: Kind,
    script: bytes,
    context: object,
    timeout_ms: int,
    deliver_within: float,
) -> remote_run.Run:
    try:
        text = script.decode()
    except UnicodeDecodeError as error:
        raise UsageMistake(f"a script for a satellite must be UTF-8 text: {error}") from error
    body: dict[str, Any] = {
        "kind": kind.value,
        "script": text,
        "timeoutMs": timeout_ms,
        "deliverWithinSeconds": deliver_within,
    }
    if context is not None:
        body["context"] = context
    return remote_run.ask(host, find(host, name), body)


def _show_detached(run: remote_run.Run, as_json: bool) -> None:
    if as_json:
        output.print_json(run)
        return
    output.say(output.line(run["id"]))
    output.note(f"To see it: `ringfence satellite runs show {output.line(run['id'])}`.")


def _show(result: dict[str, Any], as_json: bool, shown: Mapping[str, int]) -> None:
    if as_json:
        output.print_json(result)
        return
    report.show_output(result, shown)
    report.show(result)
