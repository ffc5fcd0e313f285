"""A real host with every plugin of ours, and what it logs while it is told things that it must not take."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from ringfence.testing import PluginFactory
from ringfence_automations.plugin import AutomationsPlugin
from ringfence_notifications.plugin import NotificationsPlugin
from structlog.testing import capture_logs

from tests.health_checks.conftest import plugins_under_test as plugins_of_checks
from tests.satellite.conftest import StartInstance, instance, own, start_instance

__all__ = ["StartInstance", "instance", "own", "plugins_of_checks", "plugins_under_test", "start_instance"]


@pytest.fixture
def plugins_under_test(plugins_of_checks: PluginFactory) -> PluginFactory:
    return lambda: [*plugins_of_checks(), NotificationsPlugin(), AutomationsPlugin()]


@pytest.fixture
def no_fault_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail when an error with a traceback was logged, or anything by a library: no peer's input may cause that."""
    with capture_logs() as entries:
        yield
    faults = [str(entry) for entry in entries if entry.get("exc_info")]
    faults += [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not faults, faults
