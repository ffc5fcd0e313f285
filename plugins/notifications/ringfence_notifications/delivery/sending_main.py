"""The program that sends one message: an order of JSON on its standard input, an answer of JSON on its standard output.

It is the only one that imports the library of all those services.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ringfence_notifications.delivery.confining import confine

MARGIN_SECONDS = 2
MOST_SAID = 5
MOST_FORMS = 3


class _Said(logging.Handler):
    """Keeps what the library says of a failure, and shows nothing."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        # The cause is said at the lowest level, between lines that tell of everything else.
        if record.levelno >= logging.WARNING or "Exception" in message:
            self.lines.append(message)


def main() -> None:
    """Do it. Nothing but the answer is written anywhere."""
    order: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    # Should whoever started this die, nobody else ends it.
    signal.alarm(int(order["seconds"]) + MARGIN_SECONDS)
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    with os.fdopen(answer, "w") as file:
        json.dump(_answer(order), file)


def _answer(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is wrong, as `error`, or as the `forms` that such an address has; empty if it was sent."""
    try:
        error = _sent(order)
    except _NoAddressError as unusable:
        return {"forms": unusable.forms}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {} if error is None else {"error": error}


class _NoAddressError(ValueError):
    """The address is none. `forms` are the ways in which one of its kind is written; none: there is no such kind."""

    def __init__(self, forms: Sequence[str]) -> None:
        self.forms = forms
        super().__init__("no address")


def _sent(order: Mapping[str, Any]) -> str | None:
    import apprise

    confine()
    said = _Said()
    log = logging.getLogger("apprise")
    log.handlers, log.propagate = [said], False
    log.setLevel(logging.DEBUG)
    asset = apprise.AppriseAsset(app_id="Ringfence", app_desc="Ringfence", async_mode=False)
    service = apprise.Apprise.instantiate(order["address"], asset=asset)
    if service is None:
        raise _NoAddressError(_forms(order["address"].partition("://")[0].lower()))
    if "id" not in order:
        return None
    headers = getattr(service, "headers", None)
    if isinstance(headers, dict):
        # Whoever gets a message twice can tell by this.
        headers.setdefault("Idempotency-Key", order["id"])
    said.lines.clear()
    if service.notify(
        title=order["title"],
        body=order["text"],
        notify_type=order["kind"],
        body_format=apprise.NotifyFormat.TEXT,
    ):
        return None
    return _told(said, "the service did not take it, and did not say why")


def _forms(kind: str) -> Sequence[str]:
    """How addresses of a kind are written."""
    from apprise.manager_plugins import NotificationManager

    kinds: Any = NotificationManager()  # type: ignore[no-untyped-call]
    if kind not in kinds:
        return []
    return [str(form).replace("{schema}", kind) for form in kinds[kind].templates[:MOST_FORMS]]


def _told(said: _Said, otherwise: str) -> str:
    lines = list(dict.fromkeys(line.strip() for line in said.lines if line.strip()))
    return "; ".join(lines[:MOST_SAID]) or otherwise


if __name__ == "__main__":
    main()
