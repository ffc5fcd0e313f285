"""Which runs of an automation may be under way at the same time, for each concurrency key. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from ringfence_automations.definitions.definition import Mode


class Admission(enum.StrEnum):
    """What becomes of a run that is to start."""

    BEGIN = "begin"
    WAIT = "wait"
    SKIP = "skip"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that waits for others of its key: the mode and the limit of the revision with which it was admitted."""

    mode: Mode
    most: int = 1

    @property
    def room(self) -> int:
        """How many of its key may be under way with it, itself included."""
        return self.most if self.mode is Mode.PARALLEL else 1


def admit(
    mode: Mode, most: int, *, running: int, waiting: int, waiting_in_all: int, most_waiting: int
) -> Admission:
    """What becomes of a new run, if so many of its key are under way and wait.

    `waiting_in_all` counts those of all keys of the automation. In the mode `restart`, those that wait and those that
    are under way are to be cancelled when the new one waits or begins.
    """
    if mode is Mode.SINGLE:
        return Admission.SKIP if running or waiting else Admission.BEGIN
    if running < Waiting(mode, most).room and (not waiting or mode is Mode.RESTART):
        return Admission.BEGIN
    if mode is not Mode.RESTART and waiting_in_all >= most_waiting:
        return Admission.REFUSE
    return Admission.WAIT


def to_begin(running: int, waiting: Sequence[Waiting]) -> int:
    """How many of those that wait, in their order, begin now: nobody overtakes."""
    count = 0
    for one in waiting:
        if running + count >= one.room:
            break
        count += 1
    return count
