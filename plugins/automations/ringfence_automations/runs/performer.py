"""What the engine asks of whoever carries out steps."""

from __future__ import annotations

from typing import Protocol

from ringfence_automations.service import Elsewhere, StepRequest, StepResult


class Performer(Protocol):
    """Carries out steps. What fails is a result; it raises nothing but that it is cancelled."""

    async def perform(self, request: StepRequest) -> StepResult | Elsewhere:
        """Carry out an attempt. The end of one that goes on elsewhere is told by `Engine.step_ended`."""
        ...

    async def cancel(self, request: StepRequest) -> None:
        """End an attempt that goes on elsewhere. May be asked again, and of one that has ended."""
        ...

    def is_repeatable(self, request: StepRequest) -> bool:
        """Whether asking for the same attempt again does nothing twice."""
        ...
