"""Logs of the long-running commands: one line each on stderr, without control characters from elsewhere.

Text for people, and JSON where stderr is no terminal: an object with `timestamp`, `level`, `logger`, `event` and what
belongs to the event, under names that stay.

Those who log leave out what is nobody's business. Here, at the edge, is the second line: see `ringfence.redaction`.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from ringfence.process import terminal
from ringfence.process.errors import UsageMistake

if TYPE_CHECKING:
    import structlog

LEVEL_VARIABLE = "RINGFENCE_LOG_LEVEL"
FORMAT_VARIABLE = "RINGFENCE_LOG_FORMAT"
TEXT, JSON = "text", "json"
LEVELS = {name.lower(): getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR")}


def configure(*, default: str = "info") -> None:
    """Send structlog's and the standard library's logs to stderr, from the level that the environment names.

    Raises:
        UsageMistake: if the environment names no level, or no format.
    """
    import structlog

    name = os.environ.get(LEVEL_VARIABLE, "").lower() or default
    if name not in LEVELS:
        raise UsageMistake(f"{LEVEL_VARIABLE} must be one of {', '.join(LEVELS)}, not {name!r}")
    level = LEVELS[name]
    is_json = _format() == JSON
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(json_formatter() if is_json else _text_formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    logging.getLogger("ringfence").setLevel(level)
    for chatty in ("uvicorn", "httpx", "httpcore", "websockets", "alembic"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))


def json_formatter() -> logging.Formatter:
    """Makes a line of JSON of each event, without what looks like a secret."""
    import structlog

    # A document is redacted before it is written as one: what is cut out of it later may be a part of it.
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _redacted,
            structlog.processors.JSONRenderer(default=str),
        ],
    )


def _text_formatter() -> logging.Formatter:
    import structlog

    from ringfence.redaction import redacted

    class Redacting(structlog.stdlib.ProcessorFormatter):
        """Has the last word on each line: also on what libraries log, and on tracebacks."""

        def format(self, record: logging.LogRecord) -> str:
            return redacted(super().format(record))

    renderer = structlog.dev.ConsoleRenderer(
        colors=terminal.console(stderr=True).color_system is not None and not os.environ.get("NO_COLOR"),
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )
    return Redacting(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _for_people,
            _made_plain,
            renderer,
        ],
    )


def _shared() -> list[structlog.typing.Processor]:
    """What is done to each event, whoever logs it and wherever it goes."""
    import structlog

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.add_logger_name,
        structlog.processors.StackInfoRenderer(),
    ]


def _format() -> str:
    """How lines are written. Raises `UsageMistake`."""
    name = os.environ.get(FORMAT_VARIABLE, "").lower() or (TEXT if sys.stderr.isatty() else JSON)
    if name not in {TEXT, JSON}:
        raise UsageMistake(f"{FORMAT_VARIABLE} must be text or json, not {name!r}")
    return name


def _redacted(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave out what looks like a secret. What could steer a terminal is escaped by JSON itself."""
    from ringfence.redaction import redacted_value

    return {key: redacted_value(key, value) for key, value in event.items()}


def _for_people(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tell the local time of day, and not who logs."""
    moment = dt.datetime.fromisoformat(str(event.pop("timestamp"))).astimezone()
    event.pop("logger", None)
    return {"timestamp": f"{moment:%H:%M:%S}", **event}


def _made_plain(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Spell out what could steer a terminal: names and outputs in logs come from elsewhere."""
    return {
        key: terminal.line(value) if isinstance(value, str) and key != "exception" else value
        for key, value in event.items()
    }
