"""The runs of which an answer is expected over one connection, and which of them its agent has. Pure.

A run is in here from the moment at which it is handed over (or the agent signs in with it, or is found to have it)
until its end is known, or it is taken back.
"""

from __future__ import annotations

from collections.abc import Iterable


class ExpectedRuns:
    """Runs by their id on the wire. `signed_in_with`: those that the agent said it had when it connected."""

    __slots__ = ("_accepted", "_signed_in_with")

    def __init__(self, signed_in_with: Iterable[str] = ()) -> None:
        self._signed_in_with = frozenset(signed_in_with)
        self._accepted = dict.fromkeys(self._signed_in_with, True)

    def __contains__(self, run: str) -> bool:
        return run in self._accepted

    def __len__(self) -> int:
        return len(self._accepted)

    def has_signed_in_with(self, run: str) -> bool:
        """Whether the agent had this run, or its result, when it connected."""
        return run in self._signed_in_with

    def awaits_acceptance(self, run: str) -> bool:
        """Whether this run was handed over, and the agent has not said yet that it has it."""
        return self._accepted.get(run) is False

    def handed_over(self, run: str) -> None:
        """Note that the run's script is on its way to the agent."""
        self._accepted[run] = False

    def taken_back(self, run: str) -> None:
        """Note that the run could not be handed over after all."""
        self._accepted.pop(run, None)

    def adopted(self, run: str) -> None:
        """Note that a run which was handed to an earlier connection goes on behind this one."""
        self._accepted[run] = True

    def accepted(self, run: str) -> bool:
        """Note that the agent says it has the run. False for one that is not expected; nothing changes then."""
        if run not in self._accepted:
            return False
        self._accepted[run] = True
        return True

    def ended(self, run: str) -> bool:
        """Note that the run's end is known. False for one that is not expected."""
        return self._accepted.pop(run, None) is not None
