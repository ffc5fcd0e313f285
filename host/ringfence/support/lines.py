"""Lines of logs as strangers may see them: what happened where, and nothing that anybody has written. Pure.

Threat: a log is given to somebody who helps, and an error in it quotes a script, a payload, or a secret in a form that
no rule knows. Mechanism: by default no text is passed on but what is known to be none of these: the name of the event,
times, numbers, ids, and of an error its kind and where in our code it was raised. Of other texts the length is told.
Not covered: an event whose own name was made of such a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ringfence.redaction import names_secret, redacted

_OWN = "ringfence."
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_IDS = frozenset(
    {
        *(
            "branch",
            "event_id",
            "group",
            "hook",
            "id",
            "instance",
            "job",
            "kind",
            "level",
            "logger",
            "name",
            "of",
        ),
        *(
            "phase",
            "plugin",
            "program",
            "request_id",
            "run",
            "run_id",
            "satellite",
            "state",
            "status",
            "stream",
        ),
        *("timestamp", "trace_id", "worker_group"),
    }
)
"""What identifies something: kept where it looks like that."""
_KIND = re.compile(r"[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit|Timeout\w*)(?=$|[:(])", re.ASCII)
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+), in (\S+)', re.MULTILINE)
_RAISED = re.compile(
    r"^([\w.]+(?:Error|Exception|Exit|Interrupt|Group|Timeout\w*))(?=$|[:(])", re.MULTILINE | re.ASCII
)


def shown(fields: Mapping[str, Any]) -> dict[str, object]:
    """A line without what anybody has written."""
    return {str(name)[:64]: _shown(str(name), value, fields) for name, value in fields.items()}


def _shown(name: str, value: object, fields: Mapping[str, Any]) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if name == "event" and str(fields.get("logger", "")).startswith(_OWN):
        return redacted(str(value))
    if name == "exception":
        return _traceback(str(value))
    if name in _IDS and not names_secret(name) and isinstance(value, str) and _ID.fullmatch(value):
        return value
    if isinstance(value, str) and (kind := _KIND.match(value)) is not None:
        return kind[0]
    return f"({len(str(value))} characters left out)"


def _traceback(text: str) -> list[str]:
    """Where it was raised, and what: no line of a program, and no message."""
    frames = [f"{path}:{number} {function}" for path, number, function in _FRAME.findall(text)]
    return [*frames, *_RAISED.findall(text)]
