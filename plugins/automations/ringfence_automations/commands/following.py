"""A run as it goes: what its steps write, and how they end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ringfence.cli import FAILURE, INTERRUPTED, CliError, HostClient, lists, output

from ringfence_automations.commands.api import API

RUNS = f"{API}/runs"
WAIT_SECONDS = 2.0
"""How long one request waits for more: so often the steps are looked at."""
LEAST_SECONDS = 0.2
"""Between two requests, where the host does not wait."""
SUCCEEDED = "succeeded"
_WORDS = {
    "queued": "waits for its turn",
    "running": "is running",
    SUCCEEDED: "has succeeded",
    "failed": "has failed",
    "cancelled": "was cancelled",
    "skipped": "was skipped",
}


class Progress:
    """What has been told of a run already."""

    def __init__(self, host: HostClient, run: str) -> None:
        self._host = host
        self._run = run
        self.after = "0"
        self._told: dict[tuple[str, int], str] = {}

    def look(self, *, wait: float) -> bool:
        """Tell what is new; False once nothing more comes."""
        page = self._host.request(
            "GET", f"{RUNS}/{self._run}/output", params={"after": self.after, "wait": str(wait), "limit": 500}
        )
        self._steps()
        for piece in page["output"]:
            for line in str(piece["text"]).splitlines():
                output.say(f"{output.line(piece['path'])} | {output.line(line)}")
        self.after = page["last"]
        return not page["ended"]

    def _steps(self) -> None:
        for step in lists.every(self._host, f"{RUNS}/{self._run}/steps", "steps"):
            which, status = (str(step["path"]), int(step["attempt"])), str(step["status"])
            if self._told.get(which) == status:
                continue
            self._told[which] = status
            attempt = f" (attempt {which[1]})" if which[1] > 1 else ""
            error = f": {step['error']}" if step.get("error") else ""
            output.say(output.line(f"{which[0]}{attempt}: {status}{error}"), style=style_of(status))


def written(host: HostClient, run: str) -> list[dict[str, Any]]:
    """All that the steps of a run have written so far."""
    found: list[dict[str, Any]] = []
    after = "0"
    while True:
        page = host.request("GET", f"{RUNS}/{run}/output", params={"after": after, "limit": 500})
        if not page["output"]:
            return found
        found += page["output"]
        after = page["last"]


def follow(host: HostClient, run: str) -> dict[str, Any]:
    """Tell of a run until it has ended; answers it.

    Raises:
        CliError: if Ctrl-C ends the command; the run goes on then.
    """
    progress = Progress(host, run)
    try:
        while True:
            began = time.monotonic()
            if not progress.look(wait=WAIT_SECONDS):
                break
            time.sleep(max(0.0, LEAST_SECONDS - (time.monotonic() - began)))
        progress.look(wait=0)
    except KeyboardInterrupt:
        raise left(run) from None
    return shown(host, run)


def wait_for(host: HostClient, run: str) -> dict[str, Any]:
    """The run, once it has ended. Raises `CliError` as `follow` does."""
    try:
        while (found := shown(host, run, wait=20.0))["endedAt"] is None:
            pass
    except KeyboardInterrupt:
        raise left(run) from None
    return found


def shown(host: HostClient, run: str, *, wait: float = 0.0) -> dict[str, Any]:
    """The run as it is now, or once it has ended or so long has passed."""
    found: dict[str, Any] = host.request("GET", f"{RUNS}/{run}", params={"wait": str(wait)} if wait else None)
    return found


def left(run: str) -> CliError:
    """What is said where a command ends before its run."""
    return CliError(
        f"the run goes on: {run}",
        hint=f"To follow it: `ringfence automation logs {run} --follow`. "
        f"To end it: `ringfence automation cancel {run}`.",
        exit_code=INTERRUPTED,
    )


def tell_end(run: Mapping[str, Any]) -> None:
    """Say how a run has ended. Raises `CliError` if it has not succeeded."""
    if run["status"] != SUCCEEDED:
        raise CliError(f"the run {in_words(run)}", exit_code=FAILURE)
    output.say(output.line(f"The run {in_words(run)}."), style=output.GOOD)


def in_words(run: Mapping[str, Any]) -> str:
    """What has become of a run, to stand behind its name."""
    message = f": {run['message']}" if run.get("message") else ""
    return f"{_WORDS.get(str(run['status']), run['status'])}{message}"


def style_of(status: str) -> str | None:
    """How a status is shown."""
    if status in (SUCCEEDED, "skipped"):
        return output.GOOD
    return output.BAD if status in ("failed", "cancelled", "interrupted") else None
