"""The hosts of these tests run the clerk alone."""

from __future__ import annotations

import pytest
from ringfence.testing import PluginFactory

from tests.jobs.clerk import Clerk


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: [Clerk()]
