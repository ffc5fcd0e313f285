"""What makes the history doubtful, told as events that are kept for ever: for whoever looks after the host."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import StrictInt

from ringfence.hooks import Hook
from ringfence.sandbox.wire import WireModel

READ_RULE = "host.event.read"
STREAM = "event-log"


class EventLogSetBack(WireModel):
    """An instance had read the log up to `read_up_to`, and found it to be another history after `resumed_after`.

    The database was restored to an older state, or somebody has removed events. Each instance that notices tells it.
    """

    read_up_to: StrictInt
    resumed_after: StrictInt
    instance: UUID


class EventLogTampered(WireModel):
    """A stream that is kept for ever does not say any more what was written: `version` is the first one, and `what`."""

    stream: str
    version: StrictInt
    what: str


def _hook(name: str, payload: Any) -> Hook[Any]:
    return Hook(name, payload, stream=STREAM, keep_forever=True, payload_rule=READ_RULE)


event_log_set_back = _hook("event-log-set-back", EventLogSetBack)
event_log_tampered = _hook("event-log-tampered", EventLogTampered)
HISTORY_HOOKS = (event_log_set_back, event_log_tampered)
