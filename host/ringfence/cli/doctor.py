"""`ringfence doctor`: what this machine can enforce, and what to do about what it cannot."""

from __future__ import annotations

from rich.text import Text

from ringfence.cli import output
from ringfence.cli.policy import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Show what this machine can enforce, tried live, and what to do about what it cannot."""
    from ringfence.sandbox.capabilities import Available, advice, describe, probe

    capabilities = probe()
    remedies = advice(capabilities)
    if as_json:
        output.print_json(
            {
                "summary": describe(capabilities),
                "capabilities": capabilities.to_wire(),
                "advice": [one.model_dump(mode="json", by_alias=True) for one in remedies],
            }
        )
        return
    output.show_table(
        ("primitive", "here", "detail"),
        (
            (name, Text("yes", style=output.GOOD), primitive.detail)
            if isinstance(primitive, Available)
            else (name, Text("no", style=output.WARN), primitive.reason)
            for name, primitive in capabilities.primitives()
        ),
    )
    for one in remedies:
        output.say(f"{output.line(one.primitive)}: {output.line(one.remedy)}")
