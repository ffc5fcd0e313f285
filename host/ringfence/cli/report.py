"""A run's outcome for people: how it ended, and what the sandbox held."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from ringfence.cli import output
from ringfence.process.errors import REFUSED, TIMED_OUT


def exit_status(result: Mapping[str, Any]) -> int:
    """The status that `ringfence run` exits with: the script's, 124 for a timeout, 125 for a refusal.

    For a script that a signal killed, that is 128 plus the signal's number, as from a shell.
    """
    if refused(result):
        return REFUSED
    if result.get("timedOut"):
        return TIMED_OUT
    code = int(result["exitCode"])
    return code & 0xFF if code >= 0 else 128 - code


def refused(result: Mapping[str, Any]) -> bool:
    """Whether the sandbox refused the run, so that nothing was started."""
    return result.get("stopped") == "refused"


def summary(result: Mapping[str, Any]) -> Text:
    """One line: how the run ended, and how long it took."""
    took = f"after {result.get('durationMs', 0):.0f} ms"
    if refused(result):
        return Text("refused: nothing was started", style=output.BAD)
    if result.get("timedOut"):
        return Text(f"timed out {took}; its whole process tree was killed", style=output.BAD)
    if result.get("stopped") == "unwatched":
        return Text(f"stopped {took}: its use of resources could not be measured", style=output.BAD)
    if stopped := result.get("stopped"):
        return Text(f"stopped {took}: it reached its limit of {output.line(stopped)}", style=output.BAD)
    code = int(result["exitCode"])
    if code < 0:
        return Text(f"killed by signal {-code} {took}", style=output.BAD)
    return Text(f"exit {code} {took}", style=output.GOOD if code == 0 else output.WARN)


def enforcement(report: Mapping[str, Any]) -> Text:
    """The layers, each marked as enforced or not."""
    text = Text()
    for layer, held in sorted(report.get("enforced", {}).items()):
        text.append(
            f"{'✓' if held else '✗'} {output.line(layer)}  ", style=output.GOOD if held else output.WARN
        )
    return text


def write(stream: str, text: str) -> None:
    """What a script has written, where it belongs; a terminal is shown no control characters."""
    out = sys.stderr if stream == "stderr" else sys.stdout
    out.write(output.plain(text) if out.isatty() else text)
    out.flush()


def show_output(result: Mapping[str, Any], shown: Mapping[str, int] | None = None) -> None:
    """Show what the script wrote, each stream where it belongs, and what it gave back.

    Of each stream, as many characters as `shown` says have been shown before, and are left out.
    """
    for stream in ("stdout", "stderr"):
        write(stream, result.get(stream, "")[(shown or {}).get(stream, 0) :])
    if result.get("value") is not None:
        output.say(json.dumps(result["value"], indent=2))
    if result.get("valueError"):
        output.note(
            f"the value that it returned was refused: {output.line(result['valueError'])}", style=output.WARN
        )


def show(result: Mapping[str, Any], *, verbose: bool = True) -> None:
    """How it ended, in one line on stderr (stdout belongs to the script), and with `verbose` the whole report.

    What was not enforced is in that one line, and so is why a run was refused.
    """
    stderr = output.console(stderr=True)
    report: Mapping[str, Any] = result.get("sandbox", {})
    line = Text("── ", style=output.DIM).append_text(summary(result))
    if not verbose:
        stderr.print(line.append_text(_lacking(result)).append_text(_told(report)), soft_wrap=True)
        return
    stderr.print(line, soft_wrap=True)
    stderr.print(Text("   enforced  ", style=output.DIM).append_text(enforcement(report)), soft_wrap=True)
    stderr.print(Text("   policy    ", style=output.DIM).append(_origin(report)), soft_wrap=True)
    if (needs := report.get("needs")) is not None:
        told = (
            output.line(json.dumps(needs, ensure_ascii=False))
            if needs
            else "nothing beyond the plain sandbox"
        )
        stderr.print(Text("   needs     ", style=output.DIM).append(told), soft_wrap=True)
    mechanisms = report.get("mechanisms") or {}
    widest = max((len(name) for name in mechanisms), default=0)
    for name, mechanism in mechanisms.items():
        text = f"   {output.line(name):<{widest}}  {output.line(mechanism)}"
        stderr.print(Text(text, style=output.DIM), soft_wrap=True)
    for downgrade in report.get("downgrades", ()):
        text = f"   not enforced: {output.line(downgrade['layer'])}: {output.line(downgrade['reason'])}"
        stderr.print(Text(text, style=output.WARN), soft_wrap=True)
    for note in report.get("notes", ()):
        text = f"   note: {output.line(note['layer'])}: {output.line(note['note'])}"
        stderr.print(Text(text, style=output.DIM), soft_wrap=True)
    if platform := report.get("platform"):
        stderr.print(Text(f"   {output.line(platform)}", style=output.DIM), soft_wrap=True)


_TOLD = frozenset({"interpreter", "script", "environment"})
"""The layers whose notes are about this one script, and not about this machine."""


def _lacking(result: Mapping[str, Any]) -> Text:
    """What the sandbox lacked, if anything: with the reasons for a run that was refused for it."""
    downgrades = result.get("sandbox", {}).get("downgrades", ())
    if not downgrades:
        return Text()
    if refused(result):
        reasons = "; ".join(
            f"{output.line(one['layer'])}: {output.line(one['reason'])}" for one in downgrades
        )
        return Text(f" ({reasons})", style=output.BAD)
    layers = ", ".join(dict.fromkeys(output.line(one["layer"]) for one in downgrades))
    return Text(f"; not enforced: {layers} (--verbose says why)", style=output.WARN)


def _told(report: Mapping[str, Any]) -> Text:
    notes = [output.line(one["note"]) for one in report.get("notes", ()) if one["layer"] in _TOLD]
    return Text(f"; {'; '.join(notes)}" if notes else "", style=output.DIM)


def _origin(report: Mapping[str, Any]) -> str:
    origin = report.get("origin")
    if not isinstance(origin, Mapping):
        return "unknown"
    revision = origin.get("revision")
    text = {
        "stored": f"revision {revision}",
        "default": "the shipped default",
        "fail-closed": "the fail-closed profile",
        "file": "the file given with --policy",
    }.get(str(origin.get("source")), output.line(origin.get("source")))
    return f"{text}: {output.line(origin['reason'])}" if origin.get("reason") else text
