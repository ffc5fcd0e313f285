"""Logs of the long-running commands: one line each on stderr, without control characters from elsewhere.

Those who log leave out what is nobody's business. Here, at the edge, is the second line: see `ringfence.redaction`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

from ringfence.process import terminal
from ringfence.process.errors import UsageMistake

LEVEL_VARIABLE = "RINGFENCE_LOG_LEVEL"
_LEVELS = {name.lower(): getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR")}


def configure(*, default: str = "info") -> None:
    """Send structlog's and the standard library's logs to stderr, from the level that the environment names.

    Raises:
        UsageMistake: if the environment names no level.
    """
    import structlog

    from ringfence.redaction import redacted

    class Redacting(structlog.stdlib.ProcessorFormatter):
        """Has the last word on each line: also on what libraries log, and on tracebacks."""

        def format(self, record: logging.LogRecord) -> str:
            return redacted(super().format(record))

    name = os.environ.get(LEVEL_VARIABLE, "").lower() or default
    if name not in _LEVELS:
        raise UsageMistake(f"{LEVEL_VARIABLE} must be one of {', '.join(_LEVELS)}, not {name!r}")
    level = _LEVELS[name]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer = structlog.dev.ConsoleRenderer(
        colors=terminal.console(stderr=True).color_system is not None and not os.environ.get("NO_COLOR"),
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        Redacting(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _made_plain, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    logging.getLogger("ringfence").setLevel(level)
    for chatty in ("uvicorn", "httpx", "httpcore", "websockets", "alembic"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))


def _made_plain(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Spell out what could steer a terminal: names and outputs in logs come from elsewhere."""
    return {
        key: terminal.line(value) if isinstance(value, str) and key != "exception" else value
        for key, value in event.items()
    }
