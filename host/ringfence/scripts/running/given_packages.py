"""Which packages a run gets: those of its set, pinned while it runs; or why it cannot have them."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.sandbox import SandboxPolicy
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.policy import FilesystemMode
from ringfence.scripts.choosing.choice import Choice, NotRunnable
from ringfence.scripts.packages.pins import Pin
from ringfence.scripts.packages.provider import DEFAULT_SET, NotReady, package_tree
from ringfence.scripts.request import ScriptKind, ScriptRequest
from ringfence.scripts.result import PackagesUsed


@dataclass(frozen=True, slots=True)
class GivenPackages:
    """What a run gets of packages.

    `directory` is the tree; `used` says of which set it is, if it is one's. A `refusal` is why the run cannot take
    place without them, and a `note` is told of one that can.
    """

    directory: str | None = None
    used: PackagesUsed | None = None
    pin: Pin | None = None
    refusal: str | None = None
    note: str | None = None

    def close(self) -> None:
        """Let go of the tree, now that the run is over."""
        if self.pin is not None:
            self.pin.close()

    def used_by(self, plan: Plan) -> PackagesUsed | None:
        """What a run of this plan really sees."""
        return self.used if plan.packages is not None and plan.wrapper is not None else None

    def refused_by(self, plan: Plan, request: ScriptRequest) -> str | None:
        """Why a run of this plan cannot have what it asked for by name."""
        if self.refusal is not None or request.packages is None or self.used_by(plan) is not None:
            return self.refusal
        if self.used is None:
            return None
        return f"the set {request.packages} cannot be shown to this run: its sandbox has no files of its own here"


async def given_packages(
    request: ScriptRequest, choice: Choice | NotRunnable, policy: SandboxPolicy, otherwise: str | None
) -> GivenPackages:
    """Ask for the packages of a run. `otherwise` is the directory for runs without a set (`RunnerSettings.packages`).

    A shell script that names no set runs without packages that are not ready: it imports nothing, and most look at
    nothing but the machine. All others are refused then, because what they would say is wrong.
    """
    if not policy.enabled or policy.filesystem.mode is not FilesystemMode.SCRATCH_PLUS_RO:
        if request.packages is None:
            return GivenPackages(otherwise)
        shown = f"filesystem.mode is {policy.filesystem.mode}" if policy.enabled else "enabled is false"
        return GivenPackages(
            refusal=f"the set {request.packages} cannot be shown to this run: the policy's {shown}"
        )
    name = request.packages or DEFAULT_SET
    answer = await package_tree(name)
    if answer is None:
        return GivenPackages(otherwise)
    if isinstance(answer, NotReady):
        text = f"packages are not ready here: {answer.reason}"
        if request.packages is None and _imports_nothing(choice):
            return GivenPackages(otherwise, note=text)
        return GivenPackages(refusal=text)
    return GivenPackages(str(answer.pin.path), PackagesUsed(set=answer.set, lock=answer.lock), answer.pin)


def _imports_nothing(choice: Choice | NotRunnable) -> bool:
    """Whether it is a shell's script, or a command: whatever else these start, they are given no packages for it."""
    if isinstance(choice, NotRunnable):
        return True
    return choice.kind in (ScriptKind.SHELL, ScriptKind.BASH) or choice.source is None
