"""`ringfence satellite`: the registered satellites, and the tokens that their agents sign in with."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text
from ringfence.cli import AsJson, HostClient, UsageMistake, Yes, confirm, output

from ringfence_satellite.client import LABELS, NAMES, REGIONS, SATELLITES, every, find
from ringfence_satellite.commands.pairs import label_changes, label_texts, labels_of, var_changes, vars_of
from ringfence_satellite.commands.tokenfile import TokenFile
from ringfence_satellite.starting import Starting

app = typer.Typer(help="Register, list and remove satellites of a running host.", no_args_is_help=True)


class Status(enum.StrEnum):
    """What a satellite can be."""

    ONLINE = "online"
    OFFLINE = "offline"
    NEVER = "never"


NameOrId = Annotated[str, typer.Argument(metavar="NAME-OR-ID", autocompletion=NAMES)]
TokenPath = Annotated[
    Path | None,
    typer.Option(help="Write the token to this new file, readable by you alone, instead of showing it."),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    region: Annotated[str, typer.Option(help="Where it is.", autocompletion=REGIONS)] = "default",
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="TAG",
            help="A label without a value; repeat for more.",
            autocompletion=LABELS,
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="A label; repeat for more."),
    ] = None,
    vars: Annotated[
        list[str] | None,
        typer.Option(
            "--var", metavar="NAME=VALUE", help="What scripts are told of it as vars.NAME; repeat for more."
        ),
    ] = None,
    token_file: TokenPath = None,
    as_json: AsJson = False,
) -> None:
    """Register a satellite. Its token is shown once, and never again."""
    with HostClient.connect() as host, TokenFile.reserved(token_file) as file:
        body: dict[str, object] = {"name": name, "region": region, "tags": tags or []}
        if labels:
            body["labels"] = labels_of(labels)
        if vars:
            body["vars"] = vars_of(vars)
        made = host.request("POST", SATELLITES, body=body)
        url = host.address.url
        _hand_over(made, file, url, as_json)


@app.command("list")
def list_(
    region: Annotated[
        str | None,
        typer.Option(help="Only those in this region.", autocompletion=REGIONS, show_default=False),
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="TAG",
            help="Only those with this label; repeat for more, all of which count.",
            autocompletion=LABELS,
        ),
    ] = None,
    selector: Annotated[
        str | None,
        typer.Option(
            "--selector",
            "-l",
            metavar="SELECTOR",
            help="Only those whose labels are so: region=eu,role in (web, api),!old",
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        Status | None, typer.Option(help="Show only satellites with this status.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the satellites: whether each is online, and which policy it has applied."""
    filters: dict[str, str | Sequence[str]] = {}
    if region is not None:
        filters["region"] = region
    if tags:
        filters["tag"] = tags
    if selector is not None:
        filters["selector"] = selector
    if status is not None:
        filters["status"] = status.value
    with HostClient.connect() as host:
        found = list(every(host, filters))
    if as_json:
        output.print_json({"satellites": found})
        return
    if not found:
        output.say(
            "No satellite matches."
            if filters
            else "No satellites yet: register one with `ringfence satellite create NAME`."
        )
        return
    output.show_table(
        ("name", "status", "policy", "enforced", "region", "labels", "version", "heartbeat"),
        (_row(satellite) for satellite in found),
        spare=("version", "region", "labels"),
    )


@app.command()
def show(satellite: NameOrId, as_json: AsJson = False) -> None:
    """Show a satellite: where it is connected, which policy it has applied since when, and what it cannot enforce."""
    with HostClient.connect() as host:
        found = find(host, satellite)
    if as_json:
        output.print_json(found)
        return
    _, status, policy, enforced, region, labels, version, _ = _row(found)
    vars: Mapping[str, str] = found.get("vars") or {}
    facts: list[tuple[str, str | Text]] = [
        ("name", output.line(found["name"])),
        ("id", output.line(found["id"])),
        ("status", status),
        ("heard of", output.when(found.get("lastHeartbeatAt"))),
        ("connected", output.when(found.get("connectedAt"))),
        ("to instance", output.line(found.get("instance") or "–")),
        ("policy", policy),
        ("since", output.when(found.get("appliedAt"))),
        ("enforced", enforced),
        ("region", region),
        ("labels", labels),
        ("vars", output.line(", ".join(f"{name}={value}" for name, value in vars.items())) or "–"),
        ("version", version),
        ("offline after", f"{found['offlineAfterSeconds']:g} s of silence"),
    ]
    facts += [
        (f"lacks {output.line(one['layer'])}", output.line(one["reason"]))
        for one in found.get("downgrades") or ()
    ]
    output.show_facts(facts)
    if found.get("appliedUnknown"):
        output.note(
            "This host's database does not have the revision that the satellite has applied, because it was set back; "
            "start the satellite's agent again."
        )


@app.command()
def update(
    satellite: NameOrId,
    name: Annotated[str | None, typer.Option(help="Another name.", show_default=False)] = None,
    region: Annotated[
        str | None, typer.Option(help="Another region.", autocompletion=REGIONS, show_default=False)
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="TAG",
            help="Tags in place of those it has; repeat for more.",
            autocompletion=LABELS,
        ),
    ] = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Remove all tags.")] = False,
    offline_after: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="S", help="Seconds of silence until it counts as offline.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rename or retag a satellite, or change when it counts as offline; what is not named stays.

    Labels with a value stay too: see `ringfence satellite label`.
    """
    if tags and no_tags:
        raise UsageMistake("--tag and --no-tags contradict one another")
    wanted = {"name": name, "region": region, "offlineAfterSeconds": offline_after}
    body: dict[str, object] = {key: value for key, value in wanted.items() if value is not None}
    if tags or no_tags:
        body["tags"] = tags or []
    if not body:
        raise UsageMistake("say what to change; see: ringfence satellite update --help")
    _change(satellite, body, as_json)


@app.command()
def label(
    satellite: NameOrId,
    changes: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE|NAME-…", help="NAME=VALUE sets a label, NAME- takes one off."),
    ],
    as_json: AsJson = False,
) -> None:
    """Set labels of a satellite, and take some off; the others stay. What it is assigned follows at once."""
    _change(satellite, {"labels": label_changes(changes)}, as_json)


@app.command()
def var(
    satellite: NameOrId,
    changes: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE|NAME-…", help="NAME=VALUE sets a var, NAME- takes one off."),
    ],
    as_json: AsJson = False,
) -> None:
    """Set vars of a satellite, and take some off; the others stay. Scripts are told them as vars.NAME."""
    _change(satellite, {"vars": var_changes(changes)}, as_json)


@app.command()
def delete(satellite: NameOrId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a satellite, after asking; its agent is cut off at once."""
    with HostClient.connect() as host:
        found = find(host, satellite)
        what = f"{found['name']} ({found.get('status', 'unknown')})"
        confirm(f"Remove the satellite {what}? Its agent is cut off at once, and its token ends.", yes=yes)
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


@app.command()
def claim(satellite: NameOrId, token_file: TokenPath = None, as_json: AsJson = False) -> None:
    """Fetch the first token of a satellite that was declared in a file. That works once."""
    with HostClient.connect() as host, TokenFile.reserved(token_file) as file:
        found = find(host, satellite)
        made = host.request("POST", f"{SATELLITES}/{quote(found['id'], safe='')}/claim")
        _hand_over(made, file, host.address.url, as_json)


def _change(satellite: str, body: Mapping[str, object], as_json: bool) -> None:
    with HostClient.connect() as host:
        found = find(host, satellite)
        changed = host.request("PATCH", f"{SATELLITES}/{quote(found['id'], safe='')}", body=body)
    if as_json:
        output.print_json(changed)
    else:
        output.say(f"{output.line(changed['name'])} is changed.")


def _hand_over(made: Mapping[str, Any], file: TokenFile | None, url: str, as_json: bool) -> None:
    satellite, token = made["satellite"], str(made["token"])
    if file is not None:
        file.write(token)
    if as_json:
        kept = {"satellite": satellite, "tokenFile": str(file.path)} if file else dict(made)
        output.print_json(kept)
        return
    where = str(file.path) if file else "TOKEN-FILE"
    if file is None:
        output.note("Keep this token: it is not shown again.")
        output.say(output.line(token))
        output.note(
            "Put it into a file that only you can read (chmod 600), and on the satellite's machine run one of:"
        )
    else:
        output.note(f"The token is in {where}. On the satellite's machine run one of:")
    starting = Starting(output.line(satellite["id"]), output.line(made.get("publicUrl") or url))
    output.note(f"  {starting.command(where)}")
    output.note(f"  {starting.service(where)}   (by systemd, now and at each boot)")
    output.note(f"  {starting.container(where)}")
    if starting.warning:
        output.note(starting.warning, style=output.WARN)


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
        output.line(", ".join(label_texts(satellite))) or "–",
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
    if not isinstance(enforced, dict) or not enforced:
        return Text("–")
    off = [output.line(layer) for layer, held in sorted(enforced.items()) if not held]
    return (
        Text(f"all but {', '.join(off)}", style=output.WARN) if off else Text("all layers", style=output.GOOD)
    )
