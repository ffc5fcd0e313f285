"""The packages of a run on this machine which a command starts: those of a set of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ringfence.cli.address import NoHost
from ringfence.cli.client import HostClient
from ringfence.cli.command_tree import plugged
from ringfence.cli.completing import names_as
from ringfence.process.errors import CliError

if TYPE_CHECKING:
    from ringfence.cli.extension_points import PackagesToRun
    from ringfence.scripts import NotReady, PackageTree, ScriptRequest

INLINE_METADATA = b"# /// script"
"""How a script begins to say what it imports (PEP 723)."""

PackagesOption = Annotated[
    str | None,
    typer.Option(
        "--packages",
        metavar="SET",
        autocompletion=names_as("packages", "delete"),
        help="The set of packages that it imports from; see: ringfence packages sets",
        show_default=False,
    ),
]


def packages_here(request: ScriptRequest) -> ScriptRequest:
    """The request with the set that it asks for by name, or in its own text, whose packages are then on this machine.

    This process answers for that set to its runs from then on. A request that asks for nothing stays as it is.

    Raises:
        CliError: if a set is asked for, and there is no host that has it.
    """
    if request.packages is None and INLINE_METADATA not in request.source:
        return request
    try:
        with HostClient.connect() as host:
            found: PackagesToRun | None = plugged().hook.packages_for_run(host=host, request=request)
    except NoHost as error:
        raise CliError(
            f"the script imports packages, which come from a host, and there is none: {error.message}",
            hint="Start one with `ringfence up`, or name one in RINGFENCE_URL.",
        ) from error
    if found is None:
        return request
    from ringfence.scripts import set_package_provider

    tree = found.tree

    async def provide(name: str) -> PackageTree | NotReady | None:
        del name
        return tree

    set_package_provider(provide)
    return replace(request, packages=found.set)
