"""A run on a satellite, as a command follows it: asked for, waited for, and ended where it runs on Ctrl-C.

The run is the host's: it goes on whatever becomes of this process, and is asked for by its id. So a host that is away
for a while costs nothing but patience.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any
from urllib.parse import quote

from ringfence.cli import INTERRUPTED, ApiError, CliError, HostClient, NoAnswer, NoHost, output, report

from ringfence_satellite.client import SATELLITES

RUNS = "/api/satellite/runs"
WAIT_SECONDS = 20.0
"""How long one request waits for the run's end: less than what proxies wait for an answer."""
SOON_SECONDS = 2.0
"""How long a run may wait for its satellite before that is said."""
ANSWER_SECONDS = 15.0
"""How much longer than it waits a request may take."""
AWAY_SECONDS = 60.0
"""For how long a host that does not answer is asked again."""
STOP_SECONDS = 10.0
"""How long a run may take to be ended before this no longer waits for it."""
_PAUSE_SECONDS = 1.0
_GATEWAY = frozenset({502, 503, 504})
"""What a host, or a proxy before it, answers that is away for the moment."""

Run = Mapping[str, Any]


def ask(host: HostClient, satellite: Mapping[str, Any], body: Mapping[str, Any]) -> Run:
    """Ask for a run; what it is then."""
    path = f"{SATELLITES}/{quote(str(satellite['id']), safe='')}/runs"
    return _run(host.request("POST", path, body=body))


def show(host: HostClient, id: str, *, wait: float = 0.0, output_after: int | None = None) -> Run:
    """The run, when it has ended or after `wait` seconds.

    Where `output_after` is given, also when it has written more than that piece, and with what comes after that.
    """
    params: dict[str, str | int] = {"wait": f"{wait:g}"}
    if output_after is not None:
        params["outputAfter"] = output_after
    return _run(host.request("GET", _path(id), params=params, timeout=wait + ANSWER_SECONDS))


def cancel(host: HostClient, id: str, *, wait: float = STOP_SECONDS) -> Run:
    """End the run where it runs; what it is when it has ended, or after `wait` seconds."""
    return _run(
        host.request("DELETE", _path(id), params={"wait": f"{wait:g}"}, timeout=wait + ANSWER_SECONDS)
    )


class Output:
    """What a run writes, shown as it comes. A piece that is missed ends that: the rest is in the result."""

    def __init__(self) -> None:
        self.last = -1
        self.shown = {"stdout": 0, "stderr": 0}
        self._is_whole = True

    def show(self, run: Run) -> None:
        """Show the pieces that came with an answer."""
        for piece in run.get("output") or ():
            self._is_whole = self._is_whole and piece["sequence"] == self.last + 1
            self.last = max(self.last, piece["sequence"])
            if self._is_whole and piece["stream"] in self.shown:
                report.write(piece["stream"], piece["text"])
                self.shown[piece["stream"]] += len(piece["text"])


def follow(host: HostClient, run: Run, output: Output | None = None) -> Run:
    """The run when it has ended; its `output` is shown meanwhile, if that is given.

    Ctrl-C ends it where it runs, and then the command.

    Raises:
        CliError: if the run cannot be looked at any more, or was ended by Ctrl-C.
    """
    with _stopped_by_signals():
        try:
            return until_ended(host, run, output)
        except KeyboardInterrupt:
            raise _interrupted(host, run) from None


def result_of(run: Run) -> dict[str, Any]:
    """The result of a run that has ended.

    Raises:
        CliError: if it has none, saying why.
    """
    if isinstance(result := run.get("result"), dict) and "exitCode" in result:
        return dict(result)
    what = {
        "cancelled": "the run was cancelled",
        "lost": "the run is lost",
        "refused": "the satellite did not run it",
        "expired": "the run was not begun",
    }.get(str(run.get("outcome")), "the run has no result")
    reason = run.get("reason")
    raise CliError(f"{what}: {reason}" if reason else what)


def until_ended(host: HostClient, run: Run, shown: Output | None = None) -> Run:
    """The run when it has ended. Raises `CliError` when it cannot be looked at any more."""
    id, wait, told, away_since = str(run["id"]), SOON_SECONDS, False, None
    while run.get("state") != "ended":
        asked_at = time.monotonic()
        try:
            run = show(host, id, wait=wait, output_after=None if shown is None else shown.last)
        except (NoHost, NoAnswer, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in _GATEWAY:
                raise
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > AWAY_SECONDS:
                raise CliError(error.message, hint=_goes_on(id)) from error
            time.sleep(_PAUSE_SECONDS)
            continue
        away_since, seen = None, None if shown is None else shown.last
        if shown is not None:
            shown.show(run)
        if run.get("state") == "queued" and not told:
            told = True
            name, until = output.line(run.get("satellite")), output.clock(run.get("deliverUntil"))
            output.note(
                f"{name} is not connected: the run waits for it until {until}. Press Ctrl-C to cancel."
            )
        if run.get("state") != "ended" and seen == (None if shown is None else shown.last):
            # A host that is about to stop answers early, and another one is asked next, or the same again.
            time.sleep(max(0.0, min(wait, _PAUSE_SECONDS) - (time.monotonic() - asked_at)))
        wait = WAIT_SECONDS
    return run


def _interrupted(host: HostClient, run: Run) -> CliError:
    id, name = str(run["id"]), output.line(run.get("satellite"))
    output.note(f"Cancelling the run on {name}; press Ctrl-C again to leave at once.")
    try:
        run = cancel(host, id)
    except KeyboardInterrupt:
        return CliError("the command ended before the run did", hint=_goes_on(id), exit_code=INTERRUPTED)
    except CliError as error:
        return CliError(
            f"the run could not be cancelled: {error.message}", hint=_goes_on(id), exit_code=INTERRUPTED
        )
    if run.get("state") != "ended":
        message = f"{name} was asked to end the run, and has not confirmed it yet"
        return CliError(message, hint=_look(id), exit_code=INTERRUPTED)
    if run.get("outcome") == "cancelled":
        return CliError(f"the run was cancelled on {name}", exit_code=INTERRUPTED)
    return CliError(
        f"the run had ended before it could be cancelled ({run.get('outcome')})",
        hint=_look(id),
        exit_code=INTERRUPTED,
    )


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Have what would end this process end the run first, as Ctrl-C does: a service manager, a closed terminal."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _goes_on(id: str) -> str:
    return f"It may still run there. {_look(id)} To end it: `ringfence runs cancel {id}`."


def _look(id: str) -> str:
    return f"To see it: `ringfence runs show {id}`."


def _path(id: str) -> str:
    return f"{RUNS}/{quote(id, safe='')}"


def _run(answer: object) -> Run:
    if not isinstance(answer, dict) or "id" not in answer or "state" not in answer:
        raise CliError(
            "the answer of the host is not a run",
            hint="It may be an older release, whose runs have no id.",
        )
    return answer
