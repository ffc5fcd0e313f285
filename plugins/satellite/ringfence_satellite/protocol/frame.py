"""One frame of the satellite protocol: how it is written as JSON, and read or refused.

No I/O and no state: a frame is parsed, or refused with a reason, from its text alone. So that old and new can
talk, an unknown *type* parses to None and unknown *fields* are dropped; what is known must fit its bounds.

Threat: a satellite is a machine that may be taken over, and anybody may open a socket. Mechanism: every text, list
and number from the other side is bounded (by the types of `ringfence.bounded`), before anything else looks at it. A
field that does not fit ends the connection. What a script has printed or returned is not the satellite's doing: of
that what cannot be stored is replaced, and what cannot be taken at all ends that one run. Not covered: whether what a
satellite says about itself is true; nobody but the satellite can know.
"""

from __future__ import annotations

import enum
from typing import ClassVar, TypeVar

from pydantic import ConfigDict, ValidationError
from pydantic_core import from_json
from ringfence.bounded import cleaned
from ringfence.refusals import in_words
from ringfence.sandbox.wire import WireModel

from ringfence_satellite.protocol.bounds import MAX_REASON, MAX_SMALL_FRAME_BYTES

PATH = "/api/ws/satellite"
"""Where a host takes satellites in."""


class CloseCode(enum.IntEnum):
    """Why a WebSocket was closed. 1000 to 1015 are RFC 6455's own, the others ours."""

    NORMAL = 1000
    GOING_AWAY = 1001
    TOO_LARGE = 1009
    FAULT = 1011
    """The host has failed at this connection in a way that nobody foresaw."""
    TRY_LATER = 1013
    BACK_SOON = 4000
    """The satellite leaves this connection, and means to come back: it is not going offline."""
    UNREADABLE = 4400
    """A frame that is no JSON object with a `type`, or whose known fields do not fit."""
    AUTH_FAILED = 4401
    REVOKED = 4403
    """The token of the satellite was rotated. A host of an older release says the same of one that was deleted."""
    SILENT = 4408
    """No heartbeat for longer than the satellite's offline threshold."""
    REPLACED = 4409
    """The same satellite has connected again; the newer connection wins."""
    DELETED = 4410
    """The satellite was deleted: nothing that it keeps will be asked for."""
    TOO_SLOW = 4413
    """The satellite does not read what it is sent."""
    TOO_FAST = 4429
    """More frames than the rate limit allows."""


class ProtocolError(ValueError):
    """A frame that cannot be taken. `code` is what to close with; the message is the reason for the peer."""

    def __init__(self, message: str, code: CloseCode = CloseCode.UNREADABLE) -> None:
        super().__init__(message)
        self.code = code


class Wire(WireModel):
    """What crosses the wire: unknown fields are dropped."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Frame(Wire):
    """One message. `TYPE` is its `type` on the wire; `MAX_BYTES` bounds its text."""

    TYPE: ClassVar[str]
    MAX_BYTES: ClassVar[int] = MAX_SMALL_FRAME_BYTES

    def encode(self) -> str:
        """The frame as JSON text. A field that is None is left out, which means the same to the reader."""
        body = self.model_dump_json(by_alias=True, exclude_none=True)
        separator = "," if body != "{}" else ""
        return f'{{"type":"{self.TYPE}"{separator}{body[1:]}'


F = TypeVar("F", bound=Frame)


def by_type(*frames: type[F]) -> dict[str, type[F]]:
    """Frames by their `type` on the wire."""
    return {frame.TYPE: frame for frame in frames}


def parse(text: str, frames: dict[str, type[F]], max_bytes: int) -> F | None:
    """Read one of these frames. None for a type that is not among them. Raises `ProtocolError`."""
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError(f"not UTF-8: {error}") from error
    _check_size("frame", size := len(raw), max_bytes)
    try:
        obj = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(obj, dict) or not isinstance(obj.get("type"), str):
        raise ProtocolError("a frame must be a JSON object with a text `type`")
    frame = frames.get(obj.pop("type"))
    if frame is None:
        return None
    _check_size(frame.TYPE, size, min(max_bytes, frame.MAX_BYTES))
    try:
        return frame.model_validate(obj, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ProtocolError(f"{frame.TYPE}: {first_problem(error)}") from error


def _check_size(what: str, size: int, most: int) -> None:
    if size > most:
        raise ProtocolError(f"{what}: {size} bytes, and the limit is {most}", CloseCode.TOO_LARGE)


def first_problem(error: ValidationError) -> str:
    """What is wrong with something that was said, in a length that the other side can be told."""
    problem = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(step) for step in problem["loc"])
    return cleaned(f"{path or 'all of it'}: {in_words(problem)}", MAX_REASON)
