"""What automations bring to the command line."""

from __future__ import annotations

from collections.abc import Mapping

from ringfence import hookimpl


@hookimpl
def commands() -> Mapping[str, str]:
    """The automations' commands."""
    here = "ringfence_automations.commands"
    return {
        "automation": f"{here}.automation:app",
        "automation run": f"{here}.running:run",
        "automation runs": f"{here}.running:runs",
        "automation logs": f"{here}.running:logs",
        "automation cancel": f"{here}.running:cancel",
        "automation try": f"{here}.trying:try_",
        "automation triggers": f"{here}.listening:triggers",
        "automation webhook": f"{here}.listening:webhook",
    }
