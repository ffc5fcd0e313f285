"""How a process runs its scripts: how many at once, how many sandboxes wait ready, where the packages are.

These are settings of the host, not of the policy: none of them loosens a sandbox.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from ringfence.sandbox.capabilities.primitives import NODE, PYTHON
from ringfence.sandbox.identities import uids
from ringfence.sandbox.wrappers.choice import WrapperKind, WrapperSettingError, chosen

RUNS_PER_CORE = 4


class RunnerSettingsError(ValueError):
    """The environment asks for something that no runner can do; the message names the variable."""


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """The host's settings for its runs.

    Attributes:
        max_concurrent_runs: more than these wait in a queue; the wait is in the result's timing.
        warm_sandboxes: how many prepared sandboxes may wait for a script, over all kinds; 0 turns that off.
        warm_idle_s: after so many seconds without use, a waiting sandbox is thrown away.
        packages: the managed package tree, which `scratch-plus-ro` adds; None if there is none.
        wrapper: the program that makes the sandboxes.
    """

    max_concurrent_runs: int
    warm_sandboxes: int = 4
    warm_idle_s: float = 60.0
    packages: str | None = None
    wrapper: WrapperKind = WrapperKind.BUBBLEWRAP

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if one is out of range.
        """
        if self.max_concurrent_runs < 1:
            raise ValueError(f"max_concurrent_runs must be at least 1, not {self.max_concurrent_runs}")
        if self.warm_sandboxes < 0:
            raise ValueError(f"warm_sandboxes must be at least 0, not {self.warm_sandboxes}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> RunnerSettings:
        """The settings that the environment has.

        They are `RINGFENCE_MAX_CONCURRENT_RUNS`, `RINGFENCE_WARM_SANDBOXES`, `RINGFENCE_SCRIPT_PACKAGES` (a
        directory) and `RINGFENCE_WRAPPER`. `RINGFENCE_UIDS`, which is used where uids are given out, is checked, and so
        are the interpreters, which are looked for when a script first needs one.

        Raises:
            RunnerSettingsError: naming the variable that is wrong.
        """
        try:
            uids.configured(environment.get(uids.SETTING))
        except uids.UidRangeError as error:
            raise RunnerSettingsError(f"{uids.SETTING} {error}") from error
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for name in (PYTHON, NODE):
            if (program := environment.get(name)) and shutil.which(program) is None:
                raise RunnerSettingsError(
                    f"{name} names {program!r}, which is no program that can be run here"
                )
        return cls(
            max_concurrent_runs=_number(
                environment, "RINGFENCE_MAX_CONCURRENT_RUNS", least=1, otherwise=RUNS_PER_CORE * cores
            ),
            warm_sandboxes=_number(environment, "RINGFENCE_WARM_SANDBOXES", least=0, otherwise=4),
            packages=environment.get("RINGFENCE_SCRIPT_PACKAGES") or None,
            wrapper=_wrapper(environment),
        )


def _wrapper(environment: Mapping[str, str]) -> WrapperKind:
    try:
        return chosen(environment)
    except WrapperSettingError as error:
        raise RunnerSettingsError(str(error)) from error


def _number(environment: Mapping[str, str], name: str, *, least: int, otherwise: int) -> int:
    if not (text := environment.get(name)):
        return otherwise
    if not text.isdecimal() or (number := int(text)) < least:
        raise RunnerSettingsError(f"{name} must be a whole number from {least} on, not {text!r}")
    return number
