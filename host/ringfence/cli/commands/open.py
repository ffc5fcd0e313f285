"""`ringfence open`: the pages in a browser, signed in."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ringfence.cli import output
from ringfence.cli.client import HostClient
from ringfence.cli.options import AsJson


def open_(
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the link instead of opening a browser.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Open the host's pages in a browser, signed in with the token that this command uses.

    The link holds for two minutes, and once. It is printed where there is no browser to open.
    """
    with HostClient.connect() as host:
        made = host.request("POST", "/api/host/sessions/links")
        url = host.address.url + str(made["path"])
    if as_json:
        output.print_json({"url": url, "expiresInSeconds": made["expiresInSeconds"]})
        return
    if not only_print and _has_a_screen() and webbrowser.open(url):
        output.note(f"Opened {urlsplit(url).netloc} in a browser.")
        return
    output.note("Open this link in a browser. It holds for two minutes, and once.")
    output.say(output.line(url))


def _has_a_screen() -> bool:
    """Whether a browser would have a window: one in this terminal would take it over."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
