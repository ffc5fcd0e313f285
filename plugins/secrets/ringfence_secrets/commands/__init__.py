"""What secrets brings to the command line: `ringfence secret`."""

from __future__ import annotations

from collections.abc import Mapping

from ringfence import hookimpl


@hookimpl
def commands() -> Mapping[str, str]:
    """The secrets' command."""
    return {"secret": "ringfence_secrets.commands.secret:app"}
