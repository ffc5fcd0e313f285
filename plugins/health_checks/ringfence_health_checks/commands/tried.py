"""What `ringfence check try` shows: how output was read, what came of it, and what the sandbox refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text
from ringfence.cli import output, report

STYLES = {"healthy": output.GOOD, "degraded": output.WARN, "unhealthy": output.BAD, "unknown": output.WARN}
EXIT_STATUS = {"healthy": 0, "degraded": 1, "unhealthy": 2, "unknown": 3}
"""As plugins have it."""
MOST_LINES = 40
"""Of each stream, so many of its last lines are shown."""


def show(tried: Mapping[str, Any]) -> None:
    """Show what came of a try. All of it comes from elsewhere, so nothing is printed as it is."""
    run: Mapping[str, Any] | None = tried.get("run")
    if run is not None:
        for stream in ("stdout", "stderr"):
            _show_output(stream, str(run.get(stream) or ""))
        is_read = tried["format"] == "verdict" and tried["status"] != "unknown"
        if run.get("value") is not None and not is_read:
            output.say(f"value   {json.dumps(run['value'])}", style=output.DIM)
    status = str(tried["status"])
    line = Text(output.line(status), style=STYLES.get(status, output.DIM))
    if tried.get("message"):
        line.append(f"  {output.line(tried['message'])}", style="default")
    output.console().print(line, soft_wrap=True)
    output.show_facts(_facts(tried))
    if run is not None:
        report.show(run, verbose=False)
        for text in refused(run):
            output.note(f"   {text}", style=output.WARN)


def refused(run: Mapping[str, Any]) -> Iterator[str]:
    """What the run's sandbox tells of this run: what was not given, not reached or not enforced."""
    sandbox: Mapping[str, Any] = run.get("sandbox") or {}
    for downgrade in sandbox.get("downgrades") or ():
        yield f"not enforced: {output.line(downgrade['layer'])}: {output.line(downgrade['reason'])}"
    for note in sandbox.get("notes") or ():
        yield f"{output.line(note['layer'])}: {output.line(note['note'])}"


def metric(one: Mapping[str, Any]) -> str:
    """A metric's value with its unit, thresholds and bounds."""
    told = f"{one['value']:g}{one.get('unit') or ''}"
    bounds = {name: one[name] for name in ("warn", "crit", "min", "max") if name in one}
    more = ", ".join(
        f"{name} {bound}" if isinstance(bound, str) else f"{name} {bound:g}" for name, bound in bounds.items()
    )
    return output.line(f"{told} ({more})" if more else told)


def _facts(tried: Mapping[str, Any]) -> Iterator[tuple[str, str | Text]]:
    yield "read as", f"{output.line(tried['format'])} (kind {output.line(tried['kind'])})"
    for name, one in tried["metrics"].items():
        yield "metric", output.line(f"{name} = ") + metric(one)
    for one in tried["assertions"]:
        mark = "✓" if one["held"] else "✗"
        found = f" ({one['actual']})" if one["actual"] else ""
        text = f"{mark} {output.line(one['assertion'])}{output.line(found)}"
        yield "assertion", Text(text, style=STYLES.get(str(one["state"]), output.DIM))
    for note in tried["notes"]:
        yield "note", output.line(note)


def _show_output(stream: str, text: str) -> None:
    lines = output.plain(text).splitlines()
    if len(lines) > MOST_LINES:
        output.say(f"{stream}  … {len(lines) - MOST_LINES} lines before these", style=output.DIM)
    for line in lines[-MOST_LINES:]:
        output.console().print(Text(f"{stream}  ", style=output.DIM).append(line), soft_wrap=True)
