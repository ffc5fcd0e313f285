"""The event log: the append-only table that every stored hook is recorded in. Emitting is appending."""

from ringfence.eventlog.append import WrongExpectedVersionError, append
from ringfence.eventlog.fleet import Fleet
from ringfence.eventlog.read import last_position, read_after, read_stream
from ringfence.eventlog.record import EventRecord
from ringfence.eventlog.tail import Tailer
from ringfence.eventlog.workers import Workers

__all__ = [
    "EventRecord",
    "Fleet",
    "Tailer",
    "Workers",
    "WrongExpectedVersionError",
    "append",
    "last_position",
    "read_after",
    "read_stream",
]
