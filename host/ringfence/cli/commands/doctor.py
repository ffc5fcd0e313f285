"""`ringfence doctor`: what this machine can enforce, what to do about what it cannot, and evidence for it.

In a container it says what that was not given, in the words of the runtimes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ringfence.cli import output
from ringfence.cli.given.policies import policy_from_file
from ringfence.cli.options import AsJson, asks_no_host
from ringfence.process.errors import FAILURE, UsageMistake
from ringfence.process.runner import check_runner

if TYPE_CHECKING:
    from ringfence.sandbox import PolicySnapshot


@asks_no_host
def doctor(
    verify: Annotated[
        bool, typer.Option("--verify", help="Try to get out of real sandboxes, and show what happened.")
    ] = False,
    policy: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="With --verify: a partial policy over the shipped default."),
    ] = None,
    print_seccomp: Annotated[
        bool,
        typer.Option(
            "--print-seccomp",
            help="Print the profile of system calls that a container needs, as Docker, Podman and Kubernetes read "
            "it, and do nothing else.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what this machine can enforce, tried live, and what to do about what it cannot.

    With --verify, exits 1 if a layer did not hold.
    """
    if print_seccomp:
        _print_seccomp(verify or policy is not None)
        return
    from ringfence.containers.missing import explained_by, missing
    from ringfence.containers.surroundings import look
    from ringfence.sandbox.capabilities.document import findings
    from ringfence.sandbox.capabilities.probe import probe

    if policy is not None and not verify:
        raise UsageMistake("--policy names what to verify: use it with --verify")
    snapshot = policy_from_file(policy) if policy is not None else None
    check_runner()
    capabilities = probe()
    document = findings(capabilities)
    around = look()
    lacking = missing(capabilities, around)
    document["container"] = around.runtime and {
        "runtime": around.runtime,
        "missing": [one.model_dump(mode="json", by_alias=True) for one in lacking],
    }
    explained = explained_by(lacking)
    document["advice"] = [one for one in document["advice"] if one["primitive"] not in explained]
    if not as_json:
        _show(document)
    if verify:
        if not as_json:
            output.note("Trying to get out of real sandboxes …", style=output.DIM)
        document["verification"] = _verify(snapshot)
        if not as_json:
            _show_verification(document["verification"])
    if as_json:
        output.print_json(document)
    if verify and not document["verification"]["holds"]:
        raise typer.Exit(FAILURE)


def _print_seccomp(something_else: bool) -> None:
    import sys

    from ringfence.containers.profile import seccomp_profile

    if something_else:
        raise UsageMistake("--print-seccomp prints a file, and goes with no other option")
    sys.stdout.write(seccomp_profile())


def _verify(snapshot: PolicySnapshot | None) -> dict[str, Any]:
    import asyncio

    from ringfence.sandbox import PolicySnapshot
    from ringfence.scripts.verifying.verify import verify

    return asyncio.run(verify(snapshot or PolicySnapshot.default())).to_wire()


def _show(document: Mapping[str, Any]) -> None:
    primitives = {
        name: value
        for name, value in document["capabilities"].items()
        if isinstance(value, dict) and "available" in value
    }
    output.show_table(
        ("primitive", "here", "detail"),
        (
            (name, Text("yes", style=output.GOOD), str(primitive.get("detail") or ""))
            if primitive["available"]
            else (
                name,
                Text("no", style=output.WARN) if primitive["tried"] else Text("?"),
                str(primitive.get("reason") or ""),
            )
            for name, primitive in primitives.items()
        ),
    )
    for one in document["advice"]:
        output.say(f"{output.line(one['primitive'])}: {output.line(one['remedy'])}")
    if document["container"]:
        _show_missing(document["container"]["missing"])


def _show_missing(missing: Sequence[Mapping[str, str]]) -> None:
    for one in missing:
        output.say(
            f"This container lacks: {output.line(one['name'])}: {output.line(one['why'])}", style=output.WARN
        )
        for runtime in ("docker", "podman", "kubernetes"):
            output.say(f"  {runtime.capitalize()}: {output.line(one[runtime])}")


def _show_verification(verification: Mapping[str, Any]) -> None:
    output.show_table(
        ("layer", "held", "tried to", "what happened"),
        (
            (
                output.line(each["layer"]),
                Text("yes", style=output.GOOD) if each["holds"] else Text("NO", style=output.BAD),
                output.line(each["tried"]),
                output.line(each["happened"]),
            )
            for each in verification["evidence"]
        ),
        title="Evidence from inside real sandboxes",
    )
    if verification["holds"]:
        output.say("Every layer held against everything that was tried.", style=output.GOOD)
    else:
        output.say("Not every layer held: see above.", style=output.BAD)
