"""`ringfence check try`: run something once as a check would, show how it is read, and keep nothing."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from ringfence.cli import (
    AsJson,
    CliError,
    HostClient,
    UsageMistake,
    output,
    packages_here,
    policy_here,
    variables,
)

from ringfence_health_checks.commands import tried as showing
from ringfence_health_checks.commands.api import CHECKS, CORE, PLACES, TRIES, find
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
            autocompletion=PLACES,
            help="Try it there: core, or a satellite's name or id, of a running host.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run something once as a check would, show how its output is read, and store nothing.

    It runs here and needs no host, unless --on says otherwise. In place of secrets it is given ***. The exit status is
    0 for healthy, 1 degraded, 2 unhealthy, 3 unknown.

    In place of FILE there may be the name of a check of a running host, which is not changed: it is tried as the other
    options would make it, in the first of its places, or in --on. With --policy, --secret-from or --var it is tried
    here.
    """
    is_for_here = policy is not None or bool(secret_from or var)
    if on is not None and is_for_here:
        raise UsageMistake(
            "--policy, --secret-from and --var are for a try on this machine: another place has its own"
        )
    given.check_names_work("try")
    trial: Mapping[str, Any]
    if _names_check(given):
        trial = {**_of_check(given), **({} if timeout is None else {"timeoutSeconds": timeout})}
        is_here = is_for_here
    else:
        name = given.name or "try"
        seconds = DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout
        trial = {**given.to_wire(), "name": name, "system": name, "timeoutSeconds": seconds}
        is_here = on is None
    task = task_of({key: value for key, value in trial.items() if key not in _BESIDE_TASK})
    if is_here:
        values = _values(secret_from)
        facts = _facts(trial["name"], trial["system"], var)
        timeout_ms = round(trial["timeoutSeconds"] * 1000)
        found = _here(task, facts, values, policy_here(policy, quiet=as_json), timeout_ms)
    else:
        with HostClient.connect() as host:
            found = elsewhere(host, trial if on is None else {**trial, "on": on})
    if as_json:
        output.print_json(found)
    else:
        showing.show(found)
    raise typer.Exit(showing.EXIT_STATUS.get(found["status"], showing.EXIT_STATUS["unknown"]))


_BESIDE_TASK = frozenset({"name", "system", "timeoutSeconds", "runsOn"})
"""What a trial says beside the task."""


def _names_check(given: GivenAnew) -> bool:
    """Whether FILE can only be the name of a check: it is no file, and no path."""
    name = given.file
    return not (name in (None, "-") or "/" in name or given.command or os.path.lexists(name))


def _of_check(given: GivenAnew) -> dict[str, Any]:
    """The trial of a check of a running host, with what else is given over it. Raises `CliError` without such a one."""
    from ringfence.scripts import Task
    from ringfence.scripts.tasks.task import amended

    name, edits = str(given.file), replace(given, file=None)
    body = edits.to_wire(keeps_kind=True)
    try:
        host = HostClient.connect()
    except CliError as error:
        raise UsageMistake(
            f"there is no file {name!r} here, and no host to ask for a check of that name: {error.message}"
        ) from error
    with host:
        check = find(host, name)
        check = host.request("GET", f"{CHECKS}/{quote(check['id'], safe='')}")
    parts = {field.alias for field in Task.model_fields.values()} | _BESIDE_TASK
    return amended(
        {key: value for key, value in check.items() if key in parts and value is not None},
        edits.over(check, body),
    )


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
        return await run_under(snapshot, await asyncio.to_thread(packages_here, request))

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


def _facts(name: str, system: str, given: Sequence[str] | None) -> dict[str, str]:
    """What a check on the core is told, and the variables that the command line gives."""
    facts = {"check.name": name, "check.system": system, "satellite.name": CORE}
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
