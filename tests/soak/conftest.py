"""A host with every plugin that a fleet needs."""

from __future__ import annotations

from tests.health_checks.conftest import plugins_under_test
from tests.satellite.conftest import start_instance

__all__ = ["plugins_under_test", "start_instance"]
