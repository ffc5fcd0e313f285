"""How a run is read: by its exit status, as a monitoring plugin, as a verdict, as a document, or as metrics. Pure.

*Never falsely healthy*: healthy is said only where the format's own rule for it holds. Who could not look, or gave
something else than the format asks for, is unknown, with the reason.

Who tells of the host and was not shown it is unknown in each of them, whatever was printed.

- `exit`: 0 is healthy and anything else unhealthy. If the script gave a value, or the last thing on its stdout is a
  JSON document, whose `status` is one of the four states, that is read as a verdict. Any other document is a message;
  but what only seems to be a verdict of another state than healthy (`{'status': 'degraded'}`) is unknown.
- `nagios`: 0 is healthy, 1 degraded, 2 unhealthy, 3 (and whatever else) unknown; see `nagios`.
- `verdict`: the script must give `{"status", "message", "metrics"}` as its value, or as the last document on stdout.
- `json`: any JSON document; its assertions, of which there is one at least, decide.
- `prometheus`: metrics in the text format of Prometheus, of which there is one at least.

In all but `nagios`, an exit status other than 0 is unhealthy, whatever the script says beside it; and so is a script
that was stopped at its limits. Assertions can make a state worse, never better.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ringfence.bounded import cleaned
from ringfence.scripts.reading import exposition, nagios
from ringfence.scripts.reading.assertions import MAX_DOCUMENT, Assertion, Quantity, Seen
from ringfence.scripts.reading.documents import (
    Document,
    Unreadable,
    last_document,
    seeming_verdict,
    whole_document,
)
from ringfence.scripts.reading.health import Health, worst
from ringfence.scripts.reading.lines import first_line, last_line, uncaught
from ringfence.scripts.reading.metrics import Metric, bounded, read_metrics
from ringfence.scripts.reading.verdict import MAX_NOTES, Outcome, Verdict, shortened, unknown
from ringfence.scripts.result import OF_THE_SCRIPT, RunResult, Stopped


class Format(enum.StrEnum):
    """How the output of a script is read; see this module's text."""

    EXIT = "exit"
    NAGIOS = "nagios"
    VERDICT = "verdict"
    JSON = "json"
    PROMETHEUS = "prometheus"


_LIMITS = {
    Stopped.TIMEOUT: "it did not end within its timeout",
    Stopped.OUTPUT: "it wrote more than maxOutputBytes",
    Stopped.MEMORY: "it used more than memoryBytes",
    Stopped.FILES: "it wrote more files than its scratch space holds",
    Stopped.VALUE: "the value that it gave back is too large",
}
"""Where a script was stopped for what it did itself: that was seen, and is unhealthy."""

_FAULTS = {
    Stopped.UNWATCHED: "what it used could not be seen",
    Stopped.OTHER: "the satellite gave a reason that this release does not know",
}


@dataclass(frozen=True, slots=True)
class _Read:
    """What a format makes of a run, before its assertions. `metrics` are all that there are."""

    status: Health
    message: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=lambda: MappingProxyType({}))
    faults: Sequence[str] = ()
    """The metrics that cannot be read, each with its reason."""
    notes: tuple[str, ...] = ()


def read(
    result: RunResult,
    format: Format = Format.EXIT,
    assertions: Sequence[Assertion] = (),
    *,
    now: dt.datetime | None = None,
) -> Verdict:
    """What a run says of the system that its script looks at. Never raises."""
    if (hindered := _hindered(result)) is not None:
        return hindered
    if result.stopped is not None:
        found = _Read(Health.UNHEALTHY, f"stopped: {_LIMITS[result.stopped]}")
    else:
        try:
            found = _READERS[format](result)
        except RecursionError:
            found = _Read(Health.UNKNOWN, "what it gave is nested too deeply to be read")
    if format is Format.JSON and not assertions and found.status is Health.HEALTHY:
        found = _Read(Health.UNKNOWN, "no assertion says what is healthy in the document")
    outcomes = _outcomes(assertions, result, found, now or dt.datetime.now(dt.UTC))
    metrics = bounded(found.metrics, list(found.faults))
    return Verdict(
        worst([found.status, *(one.state for one in outcomes)]),
        shortened(_message(found, outcomes)),
        metrics.by_name,
        outcomes,
        tuple(map(shortened, (*found.notes, *metrics.notes, *_of_the_script(result))))[:MAX_NOTES],
    )


def _of_the_script(result: RunResult) -> Iterator[str]:
    """What the sandbox has noted about the script itself."""
    return (one.note for one in result.sandbox.notes if one.layer in OF_THE_SCRIPT)


def _hindered(result: RunResult) -> Verdict | None:
    """The verdict on a run that did not look at anything, or whose look was not to be trusted."""
    if result.refused:
        reasons = "; ".join(f"{one.layer}: {one.reason}" for one in result.sandbox.downgrades)
        return unknown(f"refused by the sandbox: {reasons or 'no reason was given'}")
    if result.untold is not None:
        return unknown(f"it did not see the host, of which it tells: {result.untold}")
    if result.stopped in _FAULTS:
        return unknown(f"stopped: {_FAULTS[result.stopped]}")
    return None


def _outcomes(
    assertions: Sequence[Assertion], result: RunResult, found: _Read, now: dt.datetime
) -> tuple[Outcome, ...]:
    if not assertions:
        return ()
    seen = Seen(
        found.metrics,
        {
            "latencyMs": Quantity(result.timing.run_ms, "ms"),
            "exitCode": Quantity(result.exit_code),
            "message": found.message,
            "stdout": result.stdout,
            "stderr": result.stderr,
        },
        _document_of(result),
        now,
    )
    return tuple(one.check(seen) for one in assertions)


def _document_of(result: RunResult) -> Callable[[], object]:
    """What gives the document that assertions are about; it is looked for once, by the first that asks."""
    held: list[Document | Unreadable | None] = []

    def document() -> object:
        if not held:
            held.append(_given(result, whole_document))
        match held[0]:
            case Document(value):
                return value
            case Unreadable(reason):
                raise LookupError(reason)
        raise LookupError("the script gave no JSON document")

    return document


def _given(
    result: RunResult, look: Callable[[str], Document | Unreadable | None]
) -> Document | Unreadable | None:
    """The document that a script gave as its value, or printed."""
    if result.value_error is not None:
        return Unreadable(result.value_error)
    if result.value is not None:
        return Document(result.value)
    text = result.stdout
    if look is whole_document and len(text) > MAX_DOCUMENT:
        return Unreadable(f"what it printed is longer than {MAX_DOCUMENT} characters")
    return look(text)


def _message(found: _Read, outcomes: Sequence[Outcome]) -> str:
    """The message of the run; before it, the worst of what does not hold."""
    broken = [one for one in outcomes if not one.held]
    if not broken:
        return found.message
    told = max(broken, key=lambda one: one.state.severity)
    if found.status.severity > told.state.severity:
        return found.message
    more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    line = f"{told.assertion}: {told.actual}{more}"
    return f"{line}; {found.message}" if found.message else line


def _exit(result: RunResult) -> _Read:
    document, notes = _given(result, last_document), []
    if isinstance(document, Document) and result.value is document.value and not _states(document.value):
        document = last_document(result.stdout)
        notes.append("the value that it gave back has no status, and is not read")
    if isinstance(document, Document) and _states(document.value):
        return _said(result, document.value, notes)
    if result.exit_code:
        return _Read(Health.UNHEALTHY, _failure(result))
    if isinstance(document, Unreadable):
        return _Read(Health.UNKNOWN, document.reason)
    state = seeming_verdict(result.stdout) if document is None else _seeming(document.value)
    if state is not None:
        reason = (
            f"what it printed last seems to be the verdict {cleaned(state, 40)!r}, but is not written as one"
        )
        return _Read(Health.UNKNOWN, f"{reason}: it must be JSON, and its status one of {', '.join(Health)}")
    if uncaught(result.stderr):
        notes.append(f"it ended well, though it printed an exception: {uncaught(result.stderr)}")
    return _Read(Health.HEALTHY, last_line(result.stdout) or last_line(result.stderr), notes=tuple(notes))


def _seeming(value: object) -> str | None:
    """The status of a document, if it is a state other than healthy but for its capitals; None if it is not."""
    said = value.get("status") if isinstance(value, dict) else None
    if isinstance(said, str) and said.strip().lower() in set(Health) - {Health.HEALTHY}:
        return said
    return None


def _verdict(result: RunResult) -> _Read:
    document = _given(result, last_document)
    if isinstance(document, Document) and _states(document.value):
        return _said(result, document.value)
    if result.exit_code:
        return _Read(Health.UNHEALTHY, _failure(result))
    return _Read(Health.UNKNOWN, f"it must give a verdict, and {_instead(result, document)}")


def _states(value: object) -> bool:
    """Whether a value is an object whose `status` is one of the four states."""
    return isinstance(value, dict) and isinstance(value.get("status"), str) and value["status"] in set(Health)


def _said(result: RunResult, value: object, notes_before: Sequence[str] = ()) -> _Read:
    """What a script says in an object with a state."""
    said = value if isinstance(value, dict) else {}
    metrics = read_metrics(said.get("metrics"))
    message = said.get("message")
    message = message if isinstance(message, str) else ""
    notes = (*notes_before, *metrics.notes)
    if message == "" and said.get("message") not in (None, ""):
        notes = (*notes, "the message is left out: it is no text")
    status = Health(said["status"])
    if result.exit_code:
        if status in {Health.HEALTHY, Health.UNKNOWN} or not message:
            message = message or _failure(result)
        return _Read(Health.UNHEALTHY, message, metrics.by_name, notes=notes)
    return _Read(
        status,
        message or (last_line(result.stdout) if result.value is value else ""),
        metrics.by_name,
        notes=notes,
    )


def _instead(result: RunResult, document: Document | Unreadable | None) -> str:
    """What came instead of a verdict."""
    match document:
        case Unreadable(reason):
            return reason
        case Document(value):
            return f"gave {_named(value)}"
    line = last_line(result.stdout)
    return f"printed {line[:80]!r}" if line else "gave and printed nothing"


def _named(value: object) -> str:
    if isinstance(value, dict):
        if "status" in value:
            status = cleaned(str(value["status"]), 40)
            return f"the status {status!r}, which is none of {', '.join(Health)}"
        names = ", ".join(map(repr, list(value)[:5]))
        return f"an object without a status (it has {names})" if names else "an empty object"
    return (
        f"{'a list' if isinstance(value, list) else repr(value)[:80]} where an object with a status belongs"
    )


def _nagios(result: RunResult) -> _Read:
    said = nagios.read_output(result.stdout)
    status = nagios.STATES.get(result.exit_code, Health.UNKNOWN)
    message = said.message or first_line(result.stdout) or first_line(result.stderr)
    if result.exit_code not in nagios.STATES:
        message = f"{_ended(result)}, which no plugin ends with" + (f": {message}" if message else "")
    return _Read(status, message or _ended(result), said.metrics, said.faults)


def _json(result: RunResult) -> _Read:
    if result.exit_code:
        return _Read(Health.UNHEALTHY, _failure(result))
    match _given(result, whole_document):
        case Document():
            return _Read(Health.HEALTHY)
        case Unreadable(reason):
            return _Read(Health.UNKNOWN, reason)
    return _Read(Health.UNKNOWN, f"it must print a JSON document, and {_instead(result, None)}")


def _prometheus(result: RunResult) -> _Read:
    if result.exit_code:
        return _Read(Health.UNHEALTHY, _failure(result))
    if len(result.stdout) > MAX_EXPOSITION:
        return _Read(Health.UNKNOWN, f"it printed more than {MAX_EXPOSITION} characters of metrics")
    try:
        metrics, faults = exposition.read_exposition(result.stdout)
    except exposition.ExpositionError as error:
        return _Read(Health.UNKNOWN, str(error))
    if not metrics:
        return _Read(Health.UNKNOWN, "it must print metrics, and there is none that can be read", {}, faults)
    return _Read(Health.HEALTHY, f"{len(metrics)} metrics", metrics, faults)


MAX_EXPOSITION = 256 * 1024
"""The longest exposition, in characters: it takes a second or so to read."""

_READERS: Mapping[Format, Callable[[RunResult], _Read]] = {
    Format.EXIT: _exit,
    Format.NAGIOS: _nagios,
    Format.VERDICT: _verdict,
    Format.JSON: _json,
    Format.PROMETHEUS: _prometheus,
}


def _failure(result: RunResult) -> str:
    """The line that says most about why a script failed."""
    return uncaught(result.stderr) or last_line(result.stdout) or last_line(result.stderr) or _ended(result)


def _ended(result: RunResult) -> str:
    return f"exit status {result.exit_code}" if result.exit_code >= 0 else f"signal {-result.exit_code}"
