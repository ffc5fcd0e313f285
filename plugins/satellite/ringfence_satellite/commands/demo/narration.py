"""How the demo is told: to people as it happens, to machines as one document at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from ringfence.cli import CliError, output


class StepFailed(Exception):
    """A step did not do what it says; the message is what happened instead."""


def check(holds: bool, otherwise: str) -> None:
    """Raises `StepFailed` with `otherwise` unless `holds`."""
    if not holds:
        raise StepFailed(otherwise)


@dataclass
class Step:
    """One step as it goes on: what was seen, by name."""

    title: str
    quiet: bool
    ok: bool = False
    milliseconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def fact(self, name: str, value: Any, *, shown: Text | str | None = None) -> None:
        """Note something seen, and show it; `shown` is its form for people."""
        self.facts[name] = value
        if not self.quiet:
            text = Text(f"   {output.line(name)}: ", style=output.DIM)
            text.append_text(
                shown if isinstance(shown, Text) else Text(output.line(shown or value), style="default")
            )
            output.console().print(text, soft_wrap=True)

    def document(self) -> dict[str, Any]:
        """The step as JSON."""
        document: dict[str, Any] = {"step": self.title, "ok": self.ok, "ms": round(self.milliseconds, 1)}
        document["facts"] = self.facts
        if self.error is not None:
            document["error"] = self.error
        return document


class Narration:
    """The steps so far. After one has failed the story ends."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self.steps: list[Step] = []

    @property
    def ok(self) -> bool:
        """Whether every step did what it says."""
        return bool(self.steps) and all(step.ok for step in self.steps)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """End the story quietly at a step that failed: it has been told already."""
        with contextlib.suppress(StepFailed):
            yield

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """One step; whatever goes wrong in it is told and ends the story with `StepFailed`."""
        step = Step(title, self._quiet)
        self.steps.append(step)
        if not self._quiet:
            output.say(f"\n{len(self.steps)}. {title}", style=output.STRONG)
        started = time.monotonic()
        try:
            yield step
        except (CliError, StepFailed) as error:
            step.error = str(error)
            if not self._quiet:
                output.say(f"   ✗ {output.plain(error)}", style=output.BAD)
            raise StepFailed(step.error) from error
        else:
            step.ok = True
        finally:
            step.milliseconds = (time.monotonic() - started) * 1000
            if step.ok and not self._quiet:
                output.say(f"   ✓ {step.milliseconds:.0f} ms", style=output.GOOD)

    def document(self) -> dict[str, Any]:
        """The whole story as JSON."""
        return {
            "ok": self.ok,
            "seconds": round(time.monotonic() - self._started, 3),
            "steps": [step.document() for step in self.steps],
        }

    def conclude(self) -> None:
        """The last line."""
        if not self._quiet:
            seconds = time.monotonic() - self._started
            output.say(
                f"\nAll {len(self.steps)} steps did what they say, in {seconds:.1f} s.", style=output.GOOD
            )
