"""What health-checks brings to the command line: its commands, and two samples for the satellite of `up`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ringfence import hookimpl

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ringfence.cli import Line, Serving


@hookimpl
def commands() -> Mapping[str, str]:
    """The checks' commands."""
    return {
        "check": "ringfence_health_checks.commands.check:app",
        "silence": "ringfence_health_checks.commands.silence:app",
        "policy suggest": "ringfence_health_checks.commands.suggest:suggest",
    }


@hookimpl(trylast=True)  # when the satellite that they are for is there
def beside_up(instance: Serving) -> AbstractAsyncContextManager[Sequence[Line]]:
    """Checks that give a newcomer something to see."""
    from ringfence_health_checks.commands.sample_checks import made_beside

    return made_beside(instance)
