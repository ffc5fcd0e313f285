"""`ringfence satellite`: the registered satellites, and the tokens that their agents sign in with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from ringfence.cli import output
from ringfence.cli.client import HostClient
from ringfence.cli.errors import CliError
from ringfence.cli.policy import AsJson
from ringfence.cli.tokenfile import TokenFile

SATELLITES = "/api/satellite/satellites"

app = typer.Typer(help="Register, list and remove satellites of a running host.", no_args_is_help=True)

NameOrId = Annotated[str, typer.Argument(metavar="NAME-OR-ID")]
TokenPath = Annotated[
    Path | None,
    typer.Option(help="Write the token to this new file, readable by you alone, instead of showing it."),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    region: Annotated[str, typer.Option(help="Where it is.")] = "default",
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="A label; repeat for more.")
    ] = None,
    token_file: TokenPath = None,
    as_json: AsJson = False,
) -> None:
    """Register a satellite. Its token is shown once, and never again."""
    with HostClient.connect() as host, TokenFile.reserved(token_file) as file:
        body = {"name": name, "region": region, "tags": tags or []}
        made = host.request("POST", SATELLITES, body=body)
        url = host.address.url
        _hand_over(made, file, url, as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the satellites: whether each is online, and which policy it has applied."""
    with HostClient.connect() as host:
        answer = host.request("GET", SATELLITES)
    if as_json:
        output.print_json(answer)
        return
    if not answer["satellites"]:
        output.say("No satellites yet: register one with `ringfence satellite create NAME`.")
        return
    output.show_table(
        ("name", "status", "policy", "enforced", "region", "tags", "version", "heartbeat"),
        (_row(satellite) for satellite in answer["satellites"]),
    )


@app.command()
def delete(satellite: NameOrId, as_json: AsJson = False) -> None:
    """Remove a satellite; its agent is cut off at once."""
    with HostClient.connect() as host:
        found = find(host, satellite)
        host.request("DELETE", f"{SATELLITES}/{quote(found['id'], safe='')}")
    if as_json:
        output.print_json({"deleted": found["id"]})
    else:
        output.say(f"{output.line(found['name'])} is removed.")


@app.command("rotate-token")
def rotate_token(satellite: NameOrId, token_file: TokenPath = None, as_json: AsJson = False) -> None:
    """Give a satellite a new token; the old one ends at once."""
    with HostClient.connect() as host, TokenFile.reserved(token_file) as file:
        found = find(host, satellite)
        made = host.request("POST", f"{SATELLITES}/{quote(found['id'], safe='')}/rotate-token")
        _hand_over(made, file, host.address.url, as_json)


def find(host: HostClient, name_or_id: str) -> dict[str, Any]:
    """The satellite of that id or name.

    Raises:
        CliError: if there is none, naming those that there are.
    """
    satellites: list[dict[str, Any]] = host.request("GET", SATELLITES)["satellites"]
    for key in ("id", "name"):
        for satellite in satellites:
            if satellite.get(key) == name_or_id:
                return satellite
    known = ", ".join(output.line(satellite["name"]) for satellite in satellites)
    raise CliError(
        f"there is no satellite {name_or_id!r}",
        hint=f"There are: {known}."
        if known
        else "None is registered yet: `ringfence satellite create NAME`.",
    )


def _hand_over(made: Mapping[str, Any], file: TokenFile | None, url: str, as_json: bool) -> None:
    satellite, token = made["satellite"], str(made["token"])
    if file is not None:
        file.write(token)
    if as_json:
        kept = {"satellite": satellite, "tokenFile": str(file.path)} if file else dict(made)
        output.print_json(kept)
        return
    where = file.path if file else "TOKEN-FILE"
    if file is None:
        output.note("Keep this token: it is not shown again.")
        output.say(output.line(token))
        output.note(
            "Put it into a file that only you can read (chmod 600), and on the satellite's machine run:"
        )
    else:
        output.note(f"The token is in {file.path}. On the satellite's machine run:")
    output.note(
        f"  ringfence agent --url {url} --client-id {output.line(satellite['id'])} --token-file {where}"
    )


def _row(satellite: Mapping[str, Any]) -> tuple[str | Text, ...]:
    status = str(satellite.get("status", "?"))
    style = {"online": output.GOOD, "offline": output.BAD}.get(status, output.DIM)
    revision = satellite.get("appliedRevision")
    return (
        output.line(satellite["name"]),
        Text(output.line(status), style=style),
        Text("–") if revision is None else applied_text(satellite),
        enforced_text(satellite),
        output.line(satellite.get("region") or "–"),
        output.line(", ".join(satellite.get("tags") or ())) or "–",
        output.line(satellite.get("version") or "–"),
        output.ago(satellite.get("lastHeartbeatAt")),
    )


def applied_text(satellite: Mapping[str, Any]) -> Text:
    """The revision that a satellite has applied, and that the host's database does not have it where that is so."""
    text = Text(f"revision {satellite['appliedRevision']}")
    return text.append(", unknown here", style=output.BAD) if satellite.get("appliedUnknown") else text


def enforced_text(satellite: Mapping[str, Any]) -> Text:
    """Which layers a satellite has reported that it holds under the policy it applied, and which it cannot."""
    downgrades = satellite.get("downgrades") or ()
    enforced = satellite.get("enforced")
    if downgrades:
        lacking = dict.fromkeys(output.line(one.get("layer")) for one in downgrades)
        return Text(f"cannot enforce {', '.join(lacking)}", style=output.BAD)
    if not isinstance(enforced, dict):
        return Text("–")
    off = [output.line(layer) for layer, held in sorted(enforced.items()) if not held]
    return (
        Text(f"all but {', '.join(off)}", style=output.WARN) if off else Text("all layers", style=output.GOOD)
    )
