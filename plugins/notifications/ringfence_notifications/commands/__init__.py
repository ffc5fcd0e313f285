"""What notifications brings to the command line: `ringfence notify`."""

from __future__ import annotations

from collections.abc import Mapping

from ringfence import hookimpl


@hookimpl
def commands() -> Mapping[str, str]:
    """The notifications' command."""
    return {"notify": "ringfence_notifications.commands.notify:app"}
