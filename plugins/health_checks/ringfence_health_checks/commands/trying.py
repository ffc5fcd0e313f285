"""`ringfence check try`: run something once as a check would, show how it is read, and keep nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from ringfence.cli import (
    AsJson,
    CliError,
    HostClient,
    UsageMistake,
    output,
    policy_here,
    variables,
)

from ringfence_health_checks.commands import tried as showing
from ringfence_health_checks.commands.api import CORE, TRIES
from ringfence_health_checks.commands.option_groups import with_groups
from ringfence_health_checks.commands.work import (
    DEFAULT_TIMEOUT_SECONDS,
    GivenAnew,
    Timeout,
    task_of,
)

if TYPE_CHECKING:
    from ringfence.sandbox import PolicySnapshot
    from ringfence.scripts import Carried, Task

_GRACE_SECONDS = 60.0
"""How much longer than the script's own time a host's answer may take."""
_INTERRUPTED = 130


@with_groups
def try_(
    given: GivenAnew,
    secret_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VARIABLE",
            help="The value of the secret NAME is in this command's own variable VARIABLE; repeat for more.",
        ),
    ] = None,
    var: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What {vars.NAME} stands for here; repeat for more."),
    ] = None,
    timeout: Timeout = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A partial policy (JSON) over the shipped default, for this try."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="PLACE",
            help="Try it there: core, or a satellite's name or id, of a running host.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run something once as a check would, show how its output is read, and store nothing.

    It runs here and needs no host, unless --on says otherwise. In place of secrets it is given ***. The exit status is
    0 for healthy, 1 degraded, 2 unhealthy, 3 unknown.
    """
    given.check_names_work("try")
    wire = given.to_wire()
    task = task_of(wire)
    name = given.name or "try"
    seconds = DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout
    if on is None:
        values = _values(secret_from)
        facts = _facts(name, var)
        found = _here(task, facts, values, policy_here(policy, quiet=as_json), round(seconds * 1000))
    else:
        if policy is not None or secret_from or var:
            raise UsageMistake(
                "--policy, --secret-from and --var are for a try on this machine: another place has its own"
            )
        with HostClient.connect() as host:
            found = elsewhere(
                host, {**wire, "name": name, "system": name, "on": on, "timeoutSeconds": seconds}
            )
    if as_json:
        output.print_json(found)
    else:
        showing.show(found)
    raise typer.Exit(showing.EXIT_STATUS.get(found["status"], showing.EXIT_STATUS["unknown"]))


def elsewhere(host: HostClient, trial: Mapping[str, Any]) -> dict[str, Any]:
    """What comes of a trial in a place of a running host. Raises `CliError` if it cannot be tried there."""
    seconds = trial["timeoutSeconds"] + _GRACE_SECONDS
    answer: dict[str, Any] = host.request("POST", TRIES, body=trial, timeout=seconds)
    return answer


def _here(
    task: Task, facts: Mapping[str, str], values: Mapping[str, str], snapshot: PolicySnapshot, timeout_ms: int
) -> dict[str, Any]:
    import asyncio

    from ringfence.process.runner import check_runner
    from ringfence.process.signals import until_stopped
    from ringfence.scripts import RunResult, ScriptRequest, carry_out, run_under

    check_runner()
    absent = task.secret_names - values.keys()
    carried: Carried | None = None

    async def run(request: ScriptRequest) -> RunResult:
        return await run_under(snapshot, request)

    async def secrets(names: Collection[str]) -> Mapping[str, str]:
        return {name: values[name] for name in names}

    async def work() -> None:
        nonlocal carried
        carried = await carry_out(
            task.standing_in(absent), facts, secrets=secrets, run=run, timeout_ms=max(1, timeout_ms)
        )

    asyncio.run(until_stopped(work()))
    if carried is None:
        raise CliError("the try was cancelled", exit_code=_INTERRUPTED)
    found = carried.document(task)
    if absent:
        found["notes"].append(f"given *** in place of {', '.join(sorted(absent))}: no secrets are read here")
    return found


def _facts(name: str, given: Sequence[str] | None) -> dict[str, str]:
    """What a check on the core is told, and the variables that the command line gives."""
    facts = {"check.name": name, "check.system": name, "satellite.name": CORE}
    return facts | {f"vars.{key}": value for key, value in variables(given, option="--var").items()}


def _values(given: Sequence[str] | None) -> dict[str, str]:
    """The values of secrets that are in this command's own environment. Raises `UsageMistake`."""
    values = {}
    for one in given or ():
        name, _, variable = one.partition("=")
        if not variable:
            raise UsageMistake(f"--secret-from takes NAME=VARIABLE, not {one!r}")
        if variable not in os.environ:
            raise UsageMistake(f"--secret-from {name}: there is no variable {variable} here")
        values[name] = os.environ[variable]
    return values
