"""`ringfence sessions`: who is signed in with a browser."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from ringfence.cli import lists, output
from ringfence.cli.client import HostClient
from ringfence.cli.completing import names_from
from ringfence.cli.options import AsJson

SESSIONS = "/api/host/sessions"

app = typer.Typer(help="List and end the sessions of browsers.", no_args_is_help=True)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List who is signed in with a browser, from where, and since when."""
    with HostClient.connect() as host:
        sessions = list(lists.every(host, SESSIONS, "sessions"))
    if as_json:
        output.print_json({"sessions": sessions})
        return
    output.show_table(
        ("id", "token", "from", "browser", "began", "last used"),
        (
            (
                output.line(one["id"]),
                output.line(one["name"]),
                output.line(one["peer"]),
                output.line(one["browser"] or "–"),
                output.ago(one["beganAt"]),
                output.ago(one["lastUsedAt"]),
            )
            for one in sessions
        ),
    )


@app.command()
def end(
    session: Annotated[
        str, typer.Argument(metavar="ID", autocompletion=names_from(SESSIONS, "sessions", "id"))
    ],
    as_json: AsJson = False,
) -> None:
    """Sign a browser out, at once."""
    with HostClient.connect() as host:
        host.request("DELETE", f"{SESSIONS}/{quote(session, safe='')}")
    if as_json:
        output.print_json({"ended": session})
    else:
        output.say(f"The session {output.line(session)} has ended.")
