"""`ringfence automation triggers|webhook`: what can start automations, and the addresses of webhooks."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from ringfence.cli import AsJson, CliError, HostClient, Yes, confirm, names_from, output

from ringfence_automations.commands.api import API, Name, ask


def triggers(
    hook: Annotated[
        str | None,
        typer.Argument(
            metavar="[HOOK]",
            help="Only this hook.",
            autocompletion=names_from(f"{API}/triggers", "hooks", all_at_once=True),
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the hooks that can start automations, and what each of their events tells."""
    with HostClient.connect() as host:
        every: list[dict[str, Any]] = host.request("GET", f"{API}/triggers")["hooks"]
    found = [one for one in every if hook in {None, one["name"], *one["aliases"]}]
    if not found:
        names = ", ".join(one["name"] for one in every)
        raise CliError(f"there is no hook {hook}", hint=f"There is: {output.line(names)}")
    if as_json:
        output.print_json({"hooks": found})
        return
    for one in found:
        output.say(output.line(f"{one['name']} ({one['plugin']})"), style="bold")
        for alias in one["aliases"]:
            output.say(f"  It may be written as {output.line(alias)}, too.")
        if one["meaning"]:
            output.say(f"  {output.line(one['meaning'])}")
        if one["payloadRule"]:
            output.say(f"  Whom an automation acts for must hold {output.line(one['payloadRule'])}.")
        for field in one["fields"]:
            meaning = f" – {field['meaning']}" if field["meaning"] else ""
            output.say(output.line(f"  event.{field['name']}: {field['type']}{meaning}"))
    output.note("Beside hooks: every, cron, webhook; and by hand, with `ringfence automation run`.")


def webhook(
    name: Name,
    remove: Annotated[bool, typer.Option("--remove", help="Have the address lead nowhere any more.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Only say when it was made and used.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make the address that starts an automation, which is shown this once. One that it has is void then."""
    with HostClient.connect() as host:
        ask(host, "GET", name)
        if show:
            found = ask_address(host, "GET", name)
        elif remove:
            confirm(f"Remove the webhook address of {name}?", yes=yes)
            ask_address(host, "DELETE", name)
            found = {"removed": name}
        else:
            made = ask_address(host, "POST", name)
            found = {**made, "url": f"{host.address.url}{made['path']}"}
    if as_json:
        output.print_json(found)
    elif show:
        output.show_facts(
            (
                ("made", f"{output.when(found['createdAt'])} by {output.line(found['createdBy'])}"),
                ("used", output.when(found["lastUsedAt"]) if found["lastUsedAt"] else "never"),
            )
        )
    elif remove:
        output.say(f"The webhook address of {output.line(name)} is removed.")
    else:
        output.say(output.line(found["url"]))
        output.note("Whoever knows this address can start the automation. It is not shown again.")


def ask_address(host: HostClient, method: str, name: str) -> Any:
    """Ask for an automation's address, of which it is known that the automation is there."""
    return host.request(method, f"{API}/automations/{name}/webhook")
