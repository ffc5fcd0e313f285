"""The hosts of these tests run the probe alone."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from ringfence.testing import PluginFactory

from tests.eventlog.probe import Probe


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [Probe()]


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged. Failures are what many of these tests are about, and a traceback takes long to draw."""
    with structlog.testing.capture_logs() as entries:
        yield entries
