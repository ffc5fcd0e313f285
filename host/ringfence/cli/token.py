"""`ringfence token`: who may talk to the host, and what for."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from ringfence.cli import output
from ringfence.cli.client import HostClient
from ringfence.cli.policy import AsJson

TOKENS = "/api/host/tokens"

app = typer.Typer(help="Make, list and revoke API tokens of a running host.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for it; it is what the history shows as the actor.")],
    rules: Annotated[
        list[str],
        typer.Option(
            "--rule",
            metavar="RULE",
            help="An access rule that it holds, such as satellite.satellite.manage; repeat for more.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Make a token. It is shown once, and never again."""
    with HostClient.connect() as host:
        made = host.request("POST", TOKENS, body={"name": name, "rules": rules})
    if as_json:
        output.print_json(made)
        return
    output.note("Keep this token: it is not shown again.")
    output.say(output.line(made["token"]))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the tokens and the access rules that each holds."""
    with HostClient.connect() as host:
        answer = host.request("GET", TOKENS)
    if as_json:
        output.print_json(answer)
        return
    output.show_table(
        ("name", "state", "rules", "made", "last used"),
        (
            (
                output.line(token["name"]),
                "revoked" if token.get("revokedAt") else "valid",
                "\n".join(output.line(rule) for rule in token["rules"]) or "–",
                output.ago(token.get("createdAt")),
                output.ago(token.get("lastUsedAt")),
            )
            for token in answer["tokens"]
        ),
    )


@app.command()
def revoke(token: Annotated[str, typer.Argument(metavar="NAME-OR-ID")], as_json: AsJson = False) -> None:
    """End a token at once."""
    with HostClient.connect() as host:
        host.request("DELETE", f"{TOKENS}/{quote(token, safe='')}")
    if as_json:
        output.print_json({"revoked": token})
    else:
        output.say(f"{output.line(token)} is revoked.")
