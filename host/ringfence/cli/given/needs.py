"""What a run or a check needs, as a command line gives it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ringfence.cli.given.documents import parse_object, read_object
from ringfence.process.errors import UsageMistake

NeedsOption = Annotated[
    str | None,
    typer.Option(
        "--needs",
        metavar="FILE|JSON",
        help='What it needs of the policy, and no more: {"network": […], "hostPaths": […], "memoryBytes": …}.',
        show_default=False,
    ),
]
NeedNetwork = Annotated[
    list[str] | None,
    typer.Option(
        "--need-network",
        metavar="ENTRY",
        help="A destination that it needs, such as api.example.com:443; repeat for more.",
    ),
]


def needed(given: str | None, network: Sequence[str] | None) -> dict[str, Any] | None:
    """What such options say together; None if they say nothing. Raises `UsageMistake` for what are no needs."""
    if given is None and not network:
        return None
    from ringfence.sandbox.policy import Needs, NeedsError

    needs: dict[str, Any] = {}
    if given is not None:
        inline = given.lstrip().startswith("{")
        needs = (
            parse_object(given.encode(errors="surrogateescape"), "--needs")
            if inline
            else read_object(given, sys.stdin.buffer)
        )
    if network:
        before = needs.get("network", [])
        needs = {**needs, "network": [*(before if isinstance(before, list) else []), *network]}
    try:
        return Needs.parse(needs).to_wire()
    except NeedsError as error:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        raise UsageMistake("what is needed cannot be read", hint=problems) from error
