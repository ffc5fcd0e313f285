"""What another plugin asks for as a frame, and the satellite's answer as a result. Pure."""

from __future__ import annotations

from pydantic import ValidationError
from ringfence.redaction import problems
from ringfence.scripts import RunResult, ScriptRequest

from ringfence_satellite.protocol import JsonObject, RunScript
from ringfence_satellite.service import RunFailed

_UNASKED = "to be named when it is asked for"
_STAYS_HERE = ("secret_env", "listen", "facts")


def frame_of(request: ScriptRequest) -> RunScript:
    """The frame that asks for this run. Raises `ValueError` when there is none for it."""
    if named := [name for name in _STAYS_HERE if getattr(request, name)]:
        raise ValueError(
            f"a run on a satellite cannot have {', '.join(named)}: put what is no secret into env or context"
        )
    try:
        frame = RunScript.asking_for(_UNASKED, request)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"this script cannot be sent to a satellite: it, or its input, is no text ({error})"
        ) from None
    except ValidationError as error:
        raise ValueError(f"this script cannot be sent to a satellite: {problems(error)}") from None
    check_size(frame)
    return frame


def check_size(frame: RunScript) -> None:
    """Raises `ValueError` for a frame that is too large to be sent."""
    if (size := len(frame.encode().encode())) > frame.MAX_BYTES:
        raise ValueError(
            f"this script cannot be sent to a satellite: {size} bytes, and {frame.MAX_BYTES} is the most"
        )


def result_of(outcome: JsonObject) -> RunResult:
    """The result that a satellite has answered. Raises `RunFailed` when this release cannot read it."""
    try:
        return RunResult.model_validate(outcome)
    except ValidationError as error:
        raise RunFailed(f"the satellite's result cannot be read here: {problems(error)}") from None
