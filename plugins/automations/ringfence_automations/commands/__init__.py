"""What automations bring to the command line."""

from __future__ import annotations

from collections.abc import Mapping

from ringfence import hookimpl


@hookimpl
def commands() -> Mapping[str, str]:
    """The automations' commands."""
    return {"automation": "ringfence_automations.commands.automation:app"}
