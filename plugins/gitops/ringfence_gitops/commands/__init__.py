"""What git repositories bring to the command line: `ringfence gitops`."""

from __future__ import annotations

from collections.abc import Mapping

from ringfence import hookimpl


@hookimpl
def commands() -> Mapping[str, str]:
    """The command."""
    return {"gitops": "ringfence_gitops.commands.gitops:app"}
