"""The event log: the append-only table that every stored hook is recorded in. Emitting is appending."""

from ringfence.eventlog.append import Appended, EventLog, Log, Source, WrongExpectedVersionError
from ringfence.eventlog.groups.failed import FailedEvent, UnknownFailureError, failed_events, request_replay
from ringfence.eventlog.groups.membership import Membership
from ringfence.eventlog.groups.next_event import Heard
from ringfence.eventlog.groups.workers import Workers
from ringfence.eventlog.history.doubts import (
    HISTORY_HOOKS,
    EventLogSetBack,
    EventLogTampered,
    event_log_set_back,
    event_log_tampered,
)
from ringfence.eventlog.history.resumed import EventLogResumed, event_log_resumed
from ringfence.eventlog.history.retention import Retention
from ringfence.eventlog.history.verify import Anchor, Misfit, Verification, verify_stream
from ringfence.eventlog.history.watching import Watching
from ringfence.eventlog.read import last_position, read_after, read_newest, read_stream
from ringfence.eventlog.record import EventRecord, Written, check_payload, write
from ringfence.eventlog.tail import LogSetBackError, Tailer

__all__ = [
    "HISTORY_HOOKS",
    "Anchor",
    "Appended",
    "EventLog",
    "EventLogResumed",
    "EventLogSetBack",
    "EventLogTampered",
    "EventRecord",
    "FailedEvent",
    "Heard",
    "Log",
    "LogSetBackError",
    "Membership",
    "Misfit",
    "Retention",
    "Source",
    "Tailer",
    "UnknownFailureError",
    "Verification",
    "Watching",
    "Workers",
    "Written",
    "WrongExpectedVersionError",
    "check_payload",
    "event_log_resumed",
    "event_log_set_back",
    "event_log_tampered",
    "failed_events",
    "last_position",
    "read_after",
    "read_newest",
    "read_stream",
    "request_replay",
    "verify_stream",
    "write",
]
