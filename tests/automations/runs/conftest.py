"""The hosts of these tests run the engine alone."""

from __future__ import annotations

import pytest
from ringfence.testing import PluginFactory

from tests.automations.runs.conductor import Conductor


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [Conductor()]
