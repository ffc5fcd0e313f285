"""What the layers say while a plan is made: what holds, by which mechanism, and what is lacking."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringfence.sandbox.report import Downgrade, Layer, Note


@dataclass(slots=True)
class Findings:
    """What the layers say while they are decided."""

    enforced: dict[str, bool] = field(default_factory=dict)
    mechanisms: dict[str, str] = field(default_factory=dict)
    downgrades: list[Downgrade] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def holds(self, layer: Layer, **mechanisms: str) -> None:
        self.enforced[layer.value] = True
        self.mechanisms.update(mechanisms)

    def lacks(self, layer: str, reason: str) -> None:
        self.downgrades.append(Downgrade(layer=layer, reason=reason))

    def note(self, layer: Layer, text: str) -> None:
        self.notes.append(Note(layer=layer, note=text))

    def claims_nothing(self, why: str, *, as_asked: bool) -> None:
        """What was found to hold does not, against such a script; `as_asked` if the policy itself has it so."""
        for layer in () if as_asked else tuple(self.enforced):
            self.lacks(layer, why)
        self.enforced.clear()
        self.mechanisms.clear()
        self.note(Layer.PRIVILEGE, why)
