"""Every test here runs the host with plugins of its own making, or with none."""

from __future__ import annotations

import pytest
from ringfence.testing import PluginFactory


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return list
