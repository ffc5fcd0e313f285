"""`ringfence gitops`: git repositories whose documents hold on the host."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from ringfence.cli import (
    FAILURE,
    AsJson,
    CliError,
    HostClient,
    UsageMistake,
    Yes,
    confirm,
    lists,
    names_as,
    output,
)

from ringfence_gitops.commands.options import (
    SOURCES,
    AllowedSigners,
    Branch,
    FolderPath,
    GpgKeys,
    Interval,
    KeySecret,
    KnownHosts,
    Source,
    TokenSecret,
    Username,
    WebhookSecret,
    WhenDeleted,
    of,
    said,
)

RELEASED, RELEASE, GIVE_BACK = "/api/gitops/released", "/api/gitops/release", "/api/gitops/give-back"
WAIT_SECONDS = 120.0
ASK_SECONDS = 0.5
_KINDS = {"synced": "in sync", "failed": "failed", "new": "not yet"}

app = typer.Typer(
    help="Follow git repositories: what their documents declare holds on the host.", no_args_is_help=True
)
Kind = Annotated[
    str,
    typer.Argument(
        metavar="KIND", help="Kind of the object, such as Check.", autocompletion=names_as("schema")
    ),
]
ObjectName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the object.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the repositories that are followed, and how that goes."""
    with HostClient.connect() as host:
        sources = list(lists.every(host, SOURCES, "sources"))
    if as_json:
        output.print_json({"sources": sources})
        return
    if not sources:
        output.say(
            "No repository is followed. Add one: ringfence gitops add shop https://git.example.org/shop.git"
        )
        return
    rows = [
        (
            output.line(one["name"]),
            output.line(one["url"]),
            output.line(one["branch"]),
            _state(one),
            output.line((one["commit"] or "-")[:12]),
            str(one["objects"]),
            output.ago(one["syncedAt"]) if one["syncedAt"] else "-",
        )
        for one in sources
    ]
    output.show_table(("source", "url", "branch", "state", "commit", "objects", "synced"), rows)


@app.command()
def add(
    source: Source,
    address: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="Where the repository is: https://… or ssh://…, without a password."
        ),
    ],
    branch: Branch = None,
    path: FolderPath = None,
    interval: Interval = None,
    token_secret: TokenSecret = None,
    username: Username = None,
    ssh_key_secret: KeySecret = None,
    known_hosts: KnownHosts = None,
    allowed_signers: AllowedSigners = None,
    gpg_keys: GpgKeys = None,
    webhook_secret: WebhookSecret = None,
    deletion: WhenDeleted = None,
    as_json: AsJson = False,
) -> None:
    """Follow a repository from now on. It acts for you, with the access rules that you hold then."""
    body = said(
        {
            "url": address,
            "branch": branch,
            "path": path,
            "intervalSeconds": interval,
            "tokenSecret": token_secret,
            "username": username,
            "sshKeySecret": ssh_key_secret,
            "knownHosts": known_hosts,
            "allowedSigners": allowed_signers,
            "gpgKeys": gpg_keys,
            "webhookSecret": webhook_secret,
            "deletion": deletion,
        }
    )
    with HostClient.connect() as host:
        if any(one["name"] == source for one in lists.every(host, SOURCES, "sources")):
            raise CliError(f"there is a source {source} already", hint="Change it: ringfence gitops change")
        made = host.request("PUT", of(source), body=body)
    if as_json:
        output.print_json(made)
        return
    output.say(
        f"{output.line(source)} is followed. See how that goes: ringfence gitops show {output.line(source)}"
    )


@app.command()
def change(
    source: Source,
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Where it is now.", show_default=False)
    ] = None,
    branch: Branch = None,
    path: FolderPath = None,
    interval: Interval = None,
    token_secret: TokenSecret = None,
    username: Username = None,
    ssh_key_secret: KeySecret = None,
    known_hosts: KnownHosts = None,
    allowed_signers: AllowedSigners = None,
    gpg_keys: GpgKeys = None,
    webhook_secret: WebhookSecret = None,
    deletion: WhenDeleted = None,
    enabled: Annotated[
        bool | None, typer.Option("--on/--off", help="Follow it, or not for now.", show_default=False)
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="Take a field away, such as tokenSecret.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change how a repository is followed. From now on it acts for you."""
    body = said(
        {
            "url": address,
            "branch": branch,
            "path": path,
            "intervalSeconds": interval,
            "tokenSecret": token_secret,
            "username": username,
            "sshKeySecret": ssh_key_secret,
            "knownHosts": known_hosts,
            "allowedSigners": allowed_signers,
            "gpgKeys": gpg_keys,
            "webhookSecret": webhook_secret,
            "deletion": deletion,
            "enabled": enabled,
        }
    )
    body |= dict.fromkeys(unset or ())
    if not body:
        raise UsageMistake("say what to change: see `ringfence gitops change --help`")
    with HostClient.connect() as host:
        made = host.request("PATCH", of(source), body=body)
    if as_json:
        output.print_json(made)
    else:
        output.say(f"{output.line(source)} is changed, and acts for {output.line(made['actsFor'])}.")


@app.command()
def show(source: Source, as_json: AsJson = False) -> None:
    """Show a repository: how following it goes, what is wrong with it, and which objects come from it."""
    with HostClient.connect() as host:
        found = host.request("GET", of(source))
    if as_json:
        output.print_json(found)
        return
    _show(found)
    held = [
        (output.line(one["kind"]), output.line(one["name"]), output.line(one["place"] or "-"))
        for one in found["held"]
    ]
    if held:
        output.show_table(("kind", "name", "stands in"), held)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say whether all repositories are in sync. Exit status 1: one is not."""
    with HostClient.connect() as host:
        sources = list(lists.every(host, SOURCES, "sources"))
        released = host.request("GET", RELEASED)["released"]
    wrong = [one for one in sources if one["enabled"] and one["status"] != "synced"]
    if as_json:
        output.print_json({"ok": not wrong, "sources": sources, "released": released})
    else:
        for one in sources:
            line = f"{output.line(one['name'])}: {_state(one)}"
            output.say(line + (f", {output.line(one['error'])}" if one["error"] else ""))
        for one in released:
            what = f"{output.line(one['kind'])} {output.line(one['name'])}"
            output.note(f"{what} is released from {output.line(one['source'])} by {output.line(one['by'])}")
        output.say(f"{len(sources) - len(wrong)} of {len(sources)} repositories are in sync or disabled.")
    if wrong:
        raise typer.Exit(FAILURE)


@app.command()
def sync(
    source: Source,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="This once, also take objects over that another source applied."),
    ] = False,
    allow_older: Annotated[
        bool, typer.Option("--allow-older", help="This once, go back to an older signed commit.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has been followed.")] = True,
    as_json: AsJson = False,
) -> None:
    """Have a repository followed at once. Exit status 1: it cannot be followed."""
    body = {"takeOver": take_over, "allowOlder": allow_older}
    with HostClient.connect() as host:
        before = host.request("GET", of(source))
        asked = host.request("POST", f"{of(source)}/sync", body=body)
        found = _awaited(host, source, before) if wait else None
    if found is None:
        if as_json:
            output.print_json(asked)
        else:
            output.say(f"{output.line(source)} is followed as soon as there is room.")
        return
    if as_json:
        output.print_json(found)
    else:
        _show(found)
    if found["status"] == "failed":
        raise typer.Exit(FAILURE)


@app.command()
def remove(source: Source, yes: Yes = False, as_json: AsJson = False) -> None:
    """Follow a repository no more. What it has applied stays, and can be changed by hand."""
    with HostClient.connect() as host:
        found = host.request("GET", of(source))
        confirm(f"Follow {source} no more? {_staying(len(found['held']))} as nobody's.", yes=yes)
        gone = host.request("DELETE", of(source))
    if as_json:
        output.print_json(gone)
    else:
        output.say(f"{output.line(source)} is followed no more; {_staying(len(gone['orphaned']))}.")


@app.command()
def webhook(
    source: Source,
    take_away: Annotated[bool, typer.Option("--remove", help="Have it lead nowhere any more.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make an address that has the repository followed at once, for its server. It is shown this once."""
    with HostClient.connect() as host:
        if take_away:
            host.request("DELETE", f"{of(source)}/webhook")
            made = None
        else:
            if host.request("GET", of(source))["webhook"]:
                confirm(f"{source} has an address, which is void then. Make another?", yes=yes)
            made = host.request("POST", f"{of(source)}/webhook")
    if as_json:
        output.print_json(made or {"source": source, "path": None})
    elif made is None:
        output.say(f"{output.line(source)} has no webhook any more.")
    else:
        output.say(output.line(made["path"]))
        output.note("This is shown once. Put the host's address before it, and send a POST there.")


@app.command()
def release(
    kind: Kind,
    name: ObjectName,
    reason: Annotated[str | None, typer.Option(help="Why; it is recorded.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Let an object that comes from git be changed by hand, until it is given back: for emergencies."""
    with HostClient.connect() as host:
        told = host.request("POST", RELEASE, body={"kind": kind, "name": name, "reason": reason})
    if as_json:
        output.print_json(told)
        return
    what = f"{output.line(kind)} {output.line(name)}"
    output.say(
        f"{what} can be changed. {output.line(told['source'])} leaves it alone until it is given back:"
    )
    output.say(f"  ringfence gitops give-back {what}")


@app.command("give-back")
def give_back(kind: Kind, name: ObjectName, as_json: AsJson = False) -> None:
    """Have an object that was released come from git again: it is at once as its document says."""
    with HostClient.connect() as host:
        told = host.request("POST", GIVE_BACK, body={"kind": kind, "name": name})
    if as_json:
        output.print_json(told)
    else:
        output.say(f"{output.line(kind)} {output.line(name)} comes from {output.line(told['source'])} again.")


def _awaited(host: HostClient, source: str, before: dict[str, Any]) -> dict[str, Any]:
    import time

    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        found: dict[str, Any] = host.request("GET", of(source))
        if found["triedAt"] != before["triedAt"]:
            return found
        time.sleep(ASK_SECONDS)
    raise CliError(
        f"{source} was not followed within {WAIT_SECONDS:g} seconds", hint="See: ringfence jobs list"
    )


def _staying(count: int) -> str:
    return "1 object stays" if count == 1 else f"{count} objects stay"


def _state(one: dict[str, Any]) -> str:
    return _KINDS[one["status"]] if one["enabled"] else "off"


def _show(one: dict[str, Any]) -> None:
    facts = {
        "source": output.line(one["name"]),
        "url": output.line(one["url"]),
        "branch": output.line(one["branch"]),
        "path": output.line(one["path"] or "all of it"),
        "state": _state(one),
        "acts for": output.line(one["actsFor"]),
        "deletion": one["deletion"],
    }
    if one["commit"]:
        facts["commit"] = output.line(f"{one['commit'][:12]} {one['subject'] or ''}")
        facts["by"] = output.line(one["author"] or "-")
        facts["synced"] = output.ago(one["syncedAt"])
    if one["signedBy"]:
        facts["signed by"] = output.line(one["signedBy"])
    if one["error"]:
        facts["error"] = output.line(one["error"])
        facts["failing since"] = output.ago(one["failingSince"])
    output.show_facts(facts.items())
    for finding in one["findings"]:
        where = f"{finding['file']}:{finding['line']}:{finding['column']}: " if finding["file"] else ""
        output.note(
            output.line(f"  {where}{finding['message']}"), style=output.BAD if one["error"] else output.WARN
        )
