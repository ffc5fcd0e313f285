"""A test whose command configures the logs of this process leaves them to the next test as they were."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

_configure = structlog.configure


def pytest_configure() -> None:
    """Keep no logger: one that is kept goes on to write where the test has closed what it wrote to."""
    structlog.configure = lambda **options: _configure(**{**options, "cache_logger_on_first_use": False})


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Put back what `ringfence.process.logs.configure` has changed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
