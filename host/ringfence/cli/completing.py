"""Names of a host's things for the shell to complete: quickly, or none, and never with a word of why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

MOST_NAMES = 500
SECONDS = 1.0
"""How long a shell waits for a host's answer, whoever presses the key."""


def names_from(path: str, entries: str) -> Callable[[typer.Context, str], list[str]]:
    """What `autocompletion=` takes: the names in the list at `path`, which answers have by the name `entries`."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [name for name in _names(ctx, path, entries) if name.startswith(incomplete)]
        except Exception:  # nobody reads why: a shell that completes has no place for it
            return []

    return complete


def _names(context: typer.Context, path: str, entries: str) -> list[str]:
    from ringfence.cli import chosen
    from ringfence.cli.address import local_data_dir
    from ringfence.cli.client import HostClient
    from ringfence.cli.options import use_data_dir
    from ringfence.process import settings_file

    # No command's callback runs while a shell completes, and so none has looked at these yet.
    root: dict[str, Any] = context.find_root().params
    before = {
        name: root.get(name)
        for name in ("profile", "url", "token_file", "ca_file", "client_cert", "client_key")
    }
    after = chosen.now()
    chosen.forget()
    chosen.choose(**before)
    chosen.choose(url=after.url, profile=after.profile, token_file=after.token_file, data_dir=after.data_dir)
    if after.data_dir is None:
        if root.get("data_dir") is not None:
            use_data_dir(root["data_dir"])
        else:
            settings_file.apply(local_data_dir())
    with HostClient.connect() as host:
        answer = host.request("GET", path, params={"limit": MOST_NAMES}, timeout=SECONDS)
    return [str(one["name"]) for one in answer[entries]]
