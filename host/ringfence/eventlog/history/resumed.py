"""What is told when the log is followed again: by the host, to each plugin of an instance that was cut off from it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt

from ringfence.hooks import Hook


class EventLogResumed(BaseModel):
    """This instance has connected to the event log, at its start or after the connection was lost.

    It had heard of all events up to `read_up_to`, and goes on with all that come after `resumed_after`. That is the
    same unless the database was set back (`set_back`): events that were heard are no longer in it then, some are heard
    for the second time, it may be, and positions and versions come for the second time with other content.
    """

    model_config = ConfigDict(frozen=True)

    read_up_to: StrictInt
    resumed_after: StrictInt
    set_back: StrictBool = False


event_log_resumed = Hook("event-log-resumed", EventLogResumed, stored=False)
"""For whoever keeps something of the database in memory: forget it, and read it again when it is needed.

Whether the database was set back can be told from the events that this instance has heard. What was read from the
tables before their events were heard is known to be gone by nothing, so it is not to outlive the connection.

It comes in its place among the plugin's broadcast events: after the last one of the old history and before the first
one of the new. When the database was set back, a plugin that listens to broadcast events and not to this one is taken
to have missed an event.
"""
