"""`ringfence diary`: read the diary, and write into it."""

from collections.abc import Mapping
from typing import Annotated

import typer
from ringfence import hookimpl
from ringfence.cli import AsJson, HostClient, output

ENTRIES = "/api/policy-diary/entries"

app = typer.Typer(help="Read the diary of the sandbox policy, and write into it.", no_args_is_help=True)


@hookimpl
def commands() -> Mapping[str, str]:
    return {"diary": "policy_diary.commands:app"}


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the entries, the oldest first."""
    with HostClient.connect() as host:
        entries = host.request("GET", ENTRIES)
    if as_json:
        output.print_json({"entries": entries})
        return
    rows = [(output.line(entry["author"]), output.line(entry["text"])) for entry in entries]
    output.show_table(("author", "text"), rows)


@app.command()
def write(note: Annotated[str, typer.Argument(help="What to write.")], as_json: AsJson = False) -> None:
    """Write an entry."""
    with HostClient.connect() as host:
        entry = host.request("POST", ENTRIES, params={"note": note})
    if as_json:
        output.print_json(entry)
    else:
        output.say(f"{output.line(entry['author'])} wrote: {output.line(entry['text'])}")
