"""`ringfence token`: who may talk to the host, and what for."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ringfence.cli import lists, output
from ringfence.cli.client import HostClient
from ringfence.cli.completing import names_from
from ringfence.cli.given.durations import seconds_of
from ringfence.cli.options import AsJson

TOKENS = "/api/host/tokens"
ALL_RULES = "/api/host/rules"

RULES = names_from(ALL_RULES, "rules", all_at_once=True)
NameOrId = Annotated[str, typer.Argument(metavar="NAME-OR-ID", autocompletion=names_from(TOKENS, "tokens"))]

app = typer.Typer(help="Make, list and revoke API tokens of a running host.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the token; the history shows it as the actor.")],
    rules: Annotated[
        list[str],
        typer.Option(
            "--rule",
            metavar="RULE",
            autocompletion=RULES,
            help="An access rule that the token holds, such as satellite.satellite.read, or one for what has some "
            "labels alone: 'satellite.script.run on env=dev'; repeat for more.",
        ),
    ],
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long the token is valid, such as 12h or 30d.", show_default="never"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. It is shown once, and never again."""
    body: dict[str, object] = {"name": name, "rules": rules}
    if expires is not None:
        body["expiresInSeconds"] = seconds_of(expires)
    with HostClient.connect() as host:
        made = host.request("POST", TOKENS, body=body)
    if as_json:
        output.print_json(made)
        return
    output.note("Keep this token: it is not shown again.")
    output.say(output.line(made["token"]))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the tokens and the access rules that each holds."""
    with HostClient.connect() as host:
        tokens = list(lists.every(host, TOKENS, "tokens"))
    if as_json:
        output.print_json({"tokens": tokens})
        return
    output.show_table(
        ("name", "state", "rules", "made", "last used"),
        (
            (
                output.line(token["name"]),
                _state(token),
                "\n".join(output.line(rule) for rule in token["rules"]) or "–",
                output.ago(token.get("createdAt")),
                output.ago(token.get("lastUsedAt")),
            )
            for token in tokens
        ),
    )


@app.command()
def rules(as_json: AsJson = False) -> None:
    """List every access rule that a token can hold: what it allows, and which plugin declares it."""
    with HostClient.connect() as host:
        answer = host.request("GET", ALL_RULES)
    if as_json:
        output.print_json(answer)
        return
    output.show_table(
        ("rule", "allows", "declared by", "for some labels"),
        (
            (
                output.line(rule["name"]),
                output.line(rule["description"]),
                output.line(str(rule["name"]).partition(".")[0]),
                "yes" if rule.get("narrowable") else "–",
            )
            for rule in answer["rules"]
        ),
        spare=("for some labels", "declared by"),
    )


def _state(token: dict[str, Any]) -> str:
    if token.get("revokedAt"):
        return "revoked"
    ends = token.get("expiresAt")
    if not ends:
        return "valid"
    left = dt.datetime.fromisoformat(ends) - dt.datetime.now(dt.UTC)
    return "expired" if left.total_seconds() <= 0 else f"valid until {ends[:16].replace('T', ' ')} UTC"


@app.command()
def narrow(
    token: NameOrId,
    rules: Annotated[
        list[str],
        typer.Option(
            "--rule",
            metavar="RULE",
            help="An access rule that the token keeps; repeat for more.",
            autocompletion=RULES,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Have a token hold only these rules from now on. What it does not hold already cannot be added."""
    with HostClient.connect() as host:
        narrowed = host.request("PATCH", f"{TOKENS}/{quote(token, safe='')}", body={"rules": rules})
    if as_json:
        output.print_json(narrowed)
    else:
        output.say(
            f"{output.line(narrowed['name'])} holds from now on: {output.line(', '.join(narrowed['rules']))}"
        )


@app.command()
def revoke(token: NameOrId, as_json: AsJson = False) -> None:
    """End a token at once."""
    with HostClient.connect() as host:
        host.request("DELETE", f"{TOKENS}/{quote(token, safe='')}")
    if as_json:
        output.print_json({"revoked": token})
    else:
        output.say(f"{output.line(token)} is revoked.")
