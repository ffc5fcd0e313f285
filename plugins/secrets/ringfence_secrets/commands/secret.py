"""`ringfence secret`: values that scripts may be given. They can be set, and never be read."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated
from urllib.parse import quote

import typer
from ringfence.cli import (
    ApiError,
    AsJson,
    HostClient,
    UsageMistake,
    Yes,
    confirm,
    lists,
    names_from,
    output,
    read_at_most,
)

SECRETS = "/api/secrets/secrets"
RESEAL = "/api/secrets/reseal"
LARGEST_VALUE = 1024 * 1024
"""No secret is this large; what is larger is some other file."""

app = typer.Typer(help="Set, list and delete the secrets of a running host.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        help="Name of the variable in which a script gets the value, such as API_TOKEN.",
        autocompletion=names_from(SECRETS, "secrets"),
    ),
]


@app.command("set")
def set_(name: Name, as_json: AsJson = False) -> None:
    """Set a secret, from standard input or at a prompt; never as an argument, which others could see."""
    value = _value(name)
    with HostClient.connect() as host:
        stored = host.request("PUT", f"{SECRETS}/{quote(name, safe='')}", body={"value": value})
    if as_json:
        output.print_json(stored)
    else:
        output.say(f"{output.line(name)} is set.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the secrets' names, and when each was set by whom."""
    with HostClient.connect() as host:
        secrets = list(lists.every(host, SECRETS, "secrets"))
    if as_json:
        output.print_json({"secrets": secrets})
        return
    if not secrets:
        output.say("No secrets yet: set one with `ringfence secret set NAME`.")
        return
    output.show_table(
        ("name", "set", "by", "key"),
        (
            (
                output.line(secret["name"]),
                output.ago(secret["updatedAt"]),
                output.line(secret["updatedBy"]),
                output.line(secret["keyId"]),
            )
            for secret in secrets
        ),
    )


@app.command()
def delete(name: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Forget a secret. Checks that name it cannot run any more; asks first if there are any."""
    with HostClient.connect() as host:
        if not yes and (users := _users(host, name)):
            confirm(f"{name} is used by {users}, which cannot run any more then. Delete it?", yes=yes)
        host.request("DELETE", f"{SECRETS}/{quote(name, safe='')}")
    if as_json:
        output.print_json({"deleted": name})
    else:
        output.say(f"{output.line(name)} is deleted.")


def _users(host: HostClient, name: str) -> str | None:
    """What uses a secret, in words; None if nothing does."""
    try:
        found = host.request("GET", f"{SECRETS}/{quote(name, safe='')}/users")
    except ApiError as error:
        if error.status in {404, 405}:
            if error.problem.get("title") == "No such secret":
                raise
            # A host of an older release.
            return "something that this host cannot name"
        raise
    more = found["count"] - len(found["users"])
    return ", ".join(found["users"]) + (f" and {more} more" if more > 0 else "") or None


@app.command()
def reseal(as_json: AsJson = False) -> None:
    """Encrypt anew, with the current key, what was encrypted with an older one."""
    with HostClient.connect() as host:
        answer = host.request("POST", RESEAL)
    if as_json:
        output.print_json(answer)
    else:
        count = len(answer["resealed"])
        output.say(f"{count} {'secret' if count == 1 else 'secrets'} encrypted again, with the current key.")


def _value(name: str) -> str:
    """What is typed, or what is piped in: all of it, but for the end of its last line, as `echo` or Windows adds it."""
    if sys.stdin.isatty():
        value = ""
        while not value:  # typer's own prompt would make an interruption look like a failure
            value = getpass.getpass(f"Value of {name}: ")
        return value
    try:
        value = read_at_most(sys.stdin.buffer, LARGEST_VALUE, "the value").decode()
    except UnicodeDecodeError as error:
        raise UsageMistake(f"the value must be UTF-8 text: byte {error.start} is not") from None
    return value.removesuffix("\n").removesuffix("\r")
