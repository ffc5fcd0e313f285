"""`ringfence doctor`: what this machine can enforce, what to do about what it cannot, and evidence for it."""

from __future__ import annotations

from collections.abc import Mapping
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
    as_json: AsJson = False,
) -> None:
    """Show what this machine can enforce, tried live, and what to do about what it cannot.

    With --verify, exits 1 if a layer did not hold.
    """
    from ringfence.sandbox.capabilities.document import findings
    from ringfence.sandbox.capabilities.probe import probe

    if policy is not None and not verify:
        raise UsageMistake("--policy names what to verify: use it with --verify")
    snapshot = policy_from_file(policy) if policy is not None else None
    check_runner()
    capabilities = probe()
    document = findings(capabilities)
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
