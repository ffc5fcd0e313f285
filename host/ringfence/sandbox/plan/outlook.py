"""What would become of runs on a machine under a policy: the same plan as for a run, and nothing is run. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ringfence.sandbox.capabilities.found import Cgroup, Missing, Node, Python
from ringfence.sandbox.capabilities.model import Capabilities, SystemLayout
from ringfence.sandbox.limits.cgroups.place import LegacySubtree, Place
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Refusal
from ringfence.sandbox.policy.provider import PolicySnapshot


class Fate(enum.StrEnum):
    """What would become of runs, from the best to the worst.

    `RUN`: they run, and all that the policy asks for holds. `DEGRADED`: they run with less than that. `CUT_OFF`: they
    run, and something that they have used is out of their reach. `UNKNOWN`: nobody can say.
    """

    RUN = "run"
    DEGRADED = "degraded"
    CUT_OFF = "cut-off"
    REFUSED = "refused"
    UNKNOWN = "unknown"

    def is_worse_than(self, other: Fate) -> bool:
        """Whether something breaks for what had the other fate before. Nobody can say of what is not known."""
        if Fate.UNKNOWN in (self, other):
            return False
        order = list(Fate)
        return order.index(self) > order.index(other)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would become of runs, and why it is not the best."""

    fate: Fate
    reasons: tuple[str, ...] = ()


def outlook(
    capabilities: Capabilities, snapshot: PolicySnapshot, prepared: Callable[[Inputs], Inputs] = lambda it: it
) -> Outlook:
    """The outlook for scripts of each kind for which the machine has an interpreter, and for shell scripts anyway.

    The worst of them counts. `prepared` adds to the inputs of a plan what there is of the host.
    """
    fates: list[Fate] = []
    lacking: dict[str, list[Interpreter]] = {}
    for interpreter in _interpreters(capabilities):
        decided = plan(capabilities, snapshot, prepared(Inputs(interpreter)))
        downgrades = decided.report.downgrades
        fates.append(
            Fate.REFUSED if isinstance(decided, Refusal) else Fate.DEGRADED if downgrades else Fate.RUN
        )
        for each in downgrades:
            lacking.setdefault(f"{each.layer}: {each.reason}", []).append(interpreter)
    reasons = (
        text if len(of) == len(fates) else f"{text} (scripts by {', '.join(of)})"
        for text, of in lacking.items()
    )
    return Outlook(max(fates, key=list(Fate).index), tuple(reasons))


def alike(capabilities: Capabilities) -> Capabilities:
    """The same for all machines that have the same outlook, as far as is known: without names, paths and versions.

    A plan takes milliseconds, and machines of one fleet differ in little that it goes by.
    """
    cgroup = capabilities.cgroup
    if isinstance(cgroup, Cgroup):
        here = Path("/")
        subtree = LegacySubtree(here, here) if cgroup.place.is_legacy else here
        cgroup = Cgroup(Place(subtree, is_scope=cgroup.place.is_scope))
    return replace(
        capabilities,
        kernel="",
        core_pattern="",
        layout=SystemLayout(),
        host_network=replace(capabilities.host_network, resolvers=()),
        cgroup=cgroup,
        python=_unversioned(capabilities.python),
        node=_unversioned(capabilities.node),
    )


P = TypeVar("P", Python, Node)


def _unversioned(found: P | Missing) -> P | Missing:
    return found if isinstance(found, Missing) else replace(found, version="")


def _interpreters(capabilities: Capabilities) -> list[Interpreter]:
    found = {
        Interpreter.SHELL: None,
        Interpreter.PYTHON: capabilities.python,
        Interpreter.NODE: capabilities.node,
    }
    return [each for each, primitive in found.items() if not isinstance(primitive, Missing)]
