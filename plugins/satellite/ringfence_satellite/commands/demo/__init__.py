"""`ringfence demo`: the whole of Ringfence on one's own machine, each claim checked as it is made."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import typer
from ringfence.cli import FAILURE, AsJson, CliError, asks_no_host, needs_server, output


@asks_no_host
def demo(as_json: AsJson = False) -> None:
    """Show a policy at work: a host and two satellites, on this machine, in a temporary directory.

    Exits 0 only if every step did what it says. Nothing of it is left behind, and nothing leaves the machine.
    """
    with needs_server("ringfence demo"):
        import ringfence.host  # noqa: F401  (to know before anything is started)
    from ringfence_satellite.commands.demo.narration import Narration
    from ringfence_satellite.commands.demo.stage import Stage
    from ringfence_satellite.commands.demo.story import tell

    narration = Narration(quiet=as_json)
    with _terminated_like_interrupted(), Stage() as stage, _interruption_told(), narration.told():
        tell(stage, narration)
    with narration.told(), narration.step("Everything stops, and nothing is left behind") as step:
        stage.check_gone()
        step.fact("stopped", "the host, its database and both agents; the temporary directory is removed")
    if as_json:
        output.print_json(narration.document())
    if not narration.ok:
        if not as_json:
            raise CliError(
                "the demo did not do what it says", hint="`ringfence doctor` says what this machine lacks."
            )
        raise typer.Exit(FAILURE)
    narration.conclude()


@contextlib.contextmanager
def _interruption_told() -> Iterator[None]:
    """Say at once why nothing more is shown: to stop everything takes a few seconds."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        with contextlib.suppress(OSError):  # the terminal may be gone
            output.note("Interrupted: stopping everything that the demo has started …", style=output.DIM)
        raise


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Clean up when told to stop in another way than by Ctrl-C, too."""
    from ringfence.process.signals import heeded

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        # The first one decides; what comes while we clean up and end must not keep us from it.
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in heeded() if number != signal.SIGINT}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
