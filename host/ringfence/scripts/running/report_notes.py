"""What a run adds to its report: what was dropped, mended, not shown, lost and left."""

from __future__ import annotations

from ringfence.sandbox import (
    Downgrade,
    Enforced,
    Note,
    SandboxReport,
)
from ringfence.sandbox.launch.supervision.supervise import Outcome
from ringfence.sandbox.plan.environment import ScriptEnvironment
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.report import Layer
from ringfence.scripts.choosing.choice import Choice
from ringfence.scripts.request import ScriptRequest
from ringfence.scripts.result import SCRIPT
from ringfence.scripts.running.given_packages import GivenPackages
from ringfence.scripts.running.hosts_view import shown_by
from ringfence.scripts.running.narrowing import Governed
from ringfence.scripts.running.told_in_text import host_tools_in, told_of
from ringfence.scripts.running.told_program import untold

INTERPRETER = "interpreter"
"""The layer, in a report, of what runs a script."""

PACKAGES = "packages"
"""The layer, in a report, of what a script may import."""


def nothing_held(report: SandboxReport, reason: str, layer: str = "sandbox") -> SandboxReport:
    """The report of a run that did not come to be, with the reason."""
    downgrade = Downgrade(layer=layer, reason=reason)
    return report.model_copy(
        update={
            "enforced": Enforced(),
            "mechanisms": {},
            "downgrades": (*report.downgrades, downgrade),
        }
    )


def with_dropped(report: SandboxReport, environment: ScriptEnvironment) -> SandboxReport:
    """Say which variables were not passed."""
    if not environment.dropped:
        return report
    text = f"variables that were not passed: {', '.join(environment.dropped)}"
    return report.model_copy(update={"notes": (*report.notes, Note(layer=Layer.ENVIRONMENT, note=text))})


def with_mended(report: SandboxReport, choice: Choice) -> SandboxReport:
    """Say what was mended in the script."""
    notes = (Note(layer=INTERPRETER, note=text) for text in choice.notes)
    return report.model_copy(update={"notes": (*report.notes, *notes)}) if choice.notes else report


def told_of_host(
    choice: Choice, request: ScriptRequest, planned: Plan, governed: Governed
) -> tuple[str | None, str | None]:
    """Why what is run can certainly not have told of the host, and the note on that, or on what a script misses."""
    shown = shown_by(planned)
    if shown is None:
        return None, None
    if (reason := untold(choice, request.args, shown)) is not None:
        if governed.policy != governed.ceiling.policy:
            reason = f"{reason}, and that among its own needs"
        return reason, f"what it tells of the host is not so: {reason}"
    if choice.source is None:
        return None, None
    return None, told_of(host_tools_in(choice.source.decode(errors="replace")), shown)


def with_told(report: SandboxReport, told: str | None) -> SandboxReport:
    """Say so if the script looks at the host, and is shown the sandbox in its place."""
    if told is None:
        return report
    return report.model_copy(update={"notes": (*report.notes, Note(layer=SCRIPT, note=told))})


def with_packages(report: SandboxReport, packages: GivenPackages) -> SandboxReport:
    """Say so if a run that needs no packages went on without them."""
    if packages.note is None:
        return report
    return report.model_copy(update={"notes": (*report.notes, Note(layer=PACKAGES, note=packages.note))})


def with_link(report: SandboxReport, outcome: Outcome) -> SandboxReport:
    """Say so if the script lost its link on the way: the filter held, but what was allowed could not be reached."""
    if outcome.link_ended is None:
        return report
    text = f"the link went away while the script ran: {outcome.link_ended}"
    return report.model_copy(update={"notes": (*report.notes, Note(layer=Layer.NETWORK, note=text))})


def with_left(report: SandboxReport, outcome: Outcome) -> SandboxReport:
    """Say so if something of the run could not be seen, or could not be killed."""
    texts = [outcome.failure] if outcome.failure is not None else []
    if outcome.left:
        texts.append(f"processes that could not be killed are left: {', '.join(map(str, outcome.left))}")
    if not texts:
        return report
    notes = (Note(layer=Layer.RESOURCES, note=text) for text in texts)
    return report.model_copy(update={"notes": (*report.notes, *notes)})


def with_state(report: SandboxReport, request: ScriptRequest, outcome: Outcome) -> SandboxReport:
    """Say what of a run's state is not kept for the next one."""
    if request.state is None:
        return report
    if outcome.state is None:
        text = "the script did not end by itself: its state is as it was before this run"
    elif outcome.state.problem is not None:
        text = f"its state is as it was before this run: {outcome.state.problem}"
    elif outcome.state.left_out:
        text = f"not kept in the state: {', '.join(outcome.state.left_out)}"
    else:
        return report
    return report.model_copy(update={"notes": (*report.notes, Note(layer=Layer.FILESYSTEM, note=text))})
