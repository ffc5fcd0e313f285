"""`ringfence check catalogue`: the ready checks that come along."""

from __future__ import annotations

from typing import Annotated

import typer
from ringfence.cli import AsJson, UsageMistake, names_here, output

from ringfence_health_checks import catalogue

app = typer.Typer(help="List and show ready checks.", invoke_without_command=True)


@app.callback()
def list_by_itself(context: typer.Context) -> None:
    """List ready checks, with what can be set of each. They are ordinary scripts: `show NAME` prints one.

    To use one: ringfence check create NAME --from http --set url=https://…
    """
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List ready checks, with what can be set of each."""
    found = [catalogue.ready(name) for name in catalogue.names()]
    if as_json:
        output.print_json({"checks": [_wire(one) for one in found]})
        return
    output.show_table(
        ("name", "what it says", "settings"),
        (
            (
                one.name,
                one.summary,
                " ".join(
                    each.name if each.default is None else f"[{each.name}={each.default}]"
                    for each in one.settings
                ),
            )
            for one in found
        ),
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A ready check.", autocompletion=names_here(catalogue.names))],
    as_json: AsJson = False,
) -> None:
    """Print the script of a ready check; its first lines say what can be set."""
    try:
        found = catalogue.ready(name)
    except KeyError:
        names = ", ".join(catalogue.names())
        raise UsageMistake(f"there is no ready check {name!r}", hint=f"There are: {names}.") from None
    if as_json:
        output.print_json({**_wire(found), "script": found.source})
    else:
        output.say(output.plain(found.source.rstrip("\n")))


def _wire(one: catalogue.Ready) -> dict[str, object]:
    settings = [{"name": each.name, "default": each.default, "text": each.text} for each in one.settings]
    return {"name": one.name, "summary": one.summary, "settings": settings}
