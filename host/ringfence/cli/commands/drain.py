"""`ringfence drain`: have the running host stop in good order."""

from __future__ import annotations

from ringfence.cli import output
from ringfence.cli.client import HostClient
from ringfence.cli.options import AsJson


def drain(as_json: AsJson = False) -> None:
    """Have the running host take nothing new, bring to an end what is under way, and stop.

    Its satellites connect to other instances.
    """
    with HostClient.connect() as host:
        answer = host.request("POST", "/api/host/drain")
    if as_json:
        output.print_json(answer)
        return
    output.note(
        f"The host at {host.address.url} accepts nothing new, and stops within {float(answer['deadlineSeconds']):g} s."
    )
