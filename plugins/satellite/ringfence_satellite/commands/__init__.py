"""What satellite brings to the command line: its commands, `ringfence run --satellite`, and the satellite of `up`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ringfence import hookimpl

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ringfence.cli import Line, Outcome, ScriptToRun, Serving


@hookimpl
def commands() -> Mapping[str, str]:
    """The agent, the fleet's commands, and the demo, which shows a fleet at work."""
    here = "ringfence_satellite.commands"
    return {
        "agent": "ringfence_satellite.agent.command:app",
        "agent install": f"{here}.agent_service:install",
        "agent uninstall": f"{here}.agent_service:uninstall",
        "demo": f"{here}.demo:demo",
        "satellite": f"{here}.satellite:app",
        "runs": f"{here}.runs:app",
        "satellite enrol": f"{here}.enrolling:enrol",
        "satellite runs": f"{here}.runs:app",
        "policy rollout": f"{here}.rollout:rollout",
    }


@hookimpl
def run_elsewhere(script: ScriptToRun) -> Outcome:
    """Run it on the satellite of that name."""
    from ringfence_satellite.commands.run_option import run

    return run(script)


@hookimpl
def beside_up(instance: Serving) -> AbstractAsyncContextManager[Sequence[Line]]:
    """This machine as a satellite."""
    from ringfence_satellite.commands.local_satellite import connected_beside

    return connected_beside(instance)
