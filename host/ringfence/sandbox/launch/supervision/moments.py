"""What happens in the course of a run, and what is to be done about it: the words between `course` and `supervise`."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ringfence.sandbox.limits.counting.tree import Use


class Stop(enum.Enum):
    """Why the supervisor killed a run."""

    TIMEOUT = "timeout"
    OUTPUT = "output"
    MEMORY = "memory"
    FILES = "files"
    VALUE = "value"
    UNWATCHED = "unwatched"
    CANCELLED = "cancelled"
    NEVER_STARTED = "never started"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the supervisor itself holds of one run's limits."""

    timeout_s: float
    output_bytes: int
    value_bytes: int


class Timer(enum.Enum):
    """What is waited for; each is set again from the moment that it is asked for."""

    PREPARE = "the sandbox has not started in time"
    RUN = "the script's time is over"
    LOOK = "it is time to look"
    STUCK = "the wrapper, or what starts it, does not answer"
    RESIST = "the init of a run that has ended is still there"


# What happens


class Now(enum.Enum):
    """Something that happened, of which there is no more to tell."""

    SPAWNED = "the wrapper (or a plain run's first process) is there"
    INIT_FOUND = "the init of its namespace is there"
    INIT_LOST = "the wrapper told of an init that is gone already"
    INIT_GONE = "its init is gone, and with it every process of the namespace"
    MONITOR_GONE = "the wrapper is gone"
    LINKED = "it has its link"
    OVER_CAP = "it has written more than it may"
    DRAINED = "what it had written, and was not read yet, has been told"
    OUT_OF_MEMORY = "the kernel killed it for its memory"
    SAW_NOTHING = "its init was gone, or about to be, when it was looked at"
    CANCELLED = "nobody wants it any more"


@dataclass(frozen=True, slots=True)
class NotSpawned:
    """The wrapper could not be started, or what starts it is gone, and the wrapper with it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The sandbox is in its cgroup, or cannot be put there."""

    failure: str | None = None


@dataclass(frozen=True, slots=True)
class NotLinked:
    """It cannot get its link."""

    reason: str


@dataclass(frozen=True, slots=True)
class Filled:
    """Its state is in its directory, or cannot be put there."""

    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """Bytes came on the channel."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Looked:
    """It was looked at."""

    use: Use


@dataclass(frozen=True, slots=True)
class LookFailed:
    """It could not be looked at though it is there, so nobody knows what it uses."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fired:
    """A timer ran out."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class ExitTold:
    """The script has ended with this exit code."""

    code: int


@dataclass(frozen=True, slots=True)
class Killed:
    """The killing is over; `left` are the pids of those that are still alive."""

    left: tuple[int, ...] = ()


Event = (
    Now | NotSpawned | Joined | NotLinked | Filled | Said | Looked | LookFailed | Fired | ExitTold | Killed
)

# What is to be done


class Do(enum.Enum):
    """Something to do, of which there is no more to tell."""

    START = "hand the script over, and let it begin"
    LINK = "give it its link"
    FILL = "put its state into its directory"
    LOOK = "see what it uses"
    KILL_INIT = "kill its init, which usually is all that it takes"
    KILL_ALL = "kill every process of the run until none is left, and say when that is over"
    KILL_MONITOR = "kill the wrapper"
    WATCH_INIT = "tell when its init is gone"
    WATCH_MONITOR = "tell when the wrapper is gone"
    DRAIN = "tell what there still is to read, and then that this is all: nobody is left to write more"


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Tell when so many seconds have passed; a timer that is set already begins anew."""

    timer: Timer
    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended.

    `failure` says in words what went wrong with the sandbox, if that is known. `begun`: a line of the script may have
    run, even if the run was given up before it was seen to start. `left` are the processes that could not be killed.
    `abandoned`: what starts wrappers has not answered, so one may still come to be.
    """

    exit_code: int
    stopped: Stop | None
    started: bool
    begun: bool
    failure: str | None
    value: bytes | None
    value_too_large: bool
    left: tuple[int, ...]
    abandoned: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over; nothing that happens from now on matters."""

    end: End


Action = Do | SetTimer | Finish
